"""Learned tokens of textual inversion: reads and writes diffusers' files, and adds a token to a text encoder."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from tadp_ray.errors import UserError
from tadp_ray.files import drafted
from tadp_ray.tensors import is_finite, read_foreign


@dataclass(frozen=True)
class LearnedToken:
    """A token and its vector (D,)."""

    token: str
    vector: Tensor


class ExtendedEmbedding(nn.Module):
    """A frozen token embedding with one additional, trainable row.

    Args:
        table: the existing embedding.
        vector: (D,) of the new token, whose id is the number of existing ones.
    """

    def __init__(self, table: nn.Embedding, vector: Tensor) -> None:
        super().__init__()
        self.table = table
        self.vector = nn.Parameter(vector.detach().clone().to(table.weight))

    def forward(self, ids: Tensor) -> Tensor:
        """Return the vectors (..., D) of token ids."""
        new = self.table.num_embeddings
        known = self.table(ids.clamp(max=new - 1))
        return torch.where((ids >= new)[..., None], self.vector, known)


def read_learned(path: Path) -> LearnedToken:
    """Read a learned token from a file of diffusers (.safetensors, .bin) or AUTOMATIC1111.

    Raises:
        UserError: there is no such file, or it does not contain one token of one finite vector.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file of learned embeddings; tadp-ray personalize makes one, and the published "
            "learned_embeds.bin can be named too"
        )
    token, vectors = named_vectors(read_foreign(path), path)
    rows = vectors.float().reshape(-1, vectors.shape[-1])
    if len(rows) != 1:
        raise UserError(
            f"{path}: holds {len(rows)} vectors of {token!r}; a token is one vector here, as in the published code; learn or "
            "fetch one of one vector"
        )
    if not is_finite(rows):
        raise UserError(f"{path}: the vector of {token!r} is not finite; learn it again with a lower learning rate")
    return LearnedToken(token, rows[0])


def named_vectors(contents: object, path: Path) -> tuple[str, Tensor]:
    """Return the token and its vectors, (D,) or (N, D), in the contents of a file of learned embeddings.

    Raises:
        UserError: the contents are something else.
    """
    vectors = contents
    if isinstance(contents, dict) and "string_to_param" in contents:  # AUTOMATIC1111's .pt
        token, params = contents.get("name") or path.stem, contents["string_to_param"]
        vectors = next(iter(params.values()), None) if len(params) == 1 else None
    elif isinstance(contents, dict) and contents.keys() == {"emb_params"}:  # its .safetensors
        token, vectors = path.stem, contents["emb_params"]
    elif isinstance(contents, dict) and len(contents) == 1:
        ((token, vectors),) = contents.items()
    else:
        token = None
    if isinstance(vectors, Tensor) and vectors.is_floating_point() and vectors.ndim in (1, 2) and vectors.numel():
        if isinstance(token, str) and token.strip():
            return token, vectors
    holds = (
        f"{len(contents)} entries ({', '.join(map(str, contents))})"
        if isinstance(contents, dict)
        else type(contents).__name__
    )
    raise UserError(
        f"{path}: cannot be read as learned embeddings, one token and its vector, as diffusers or AUTOMATIC1111 write "
        f"them; it holds {holds:.120}; export it as diffusers' learned_embeds.safetensors"
    )


def write_learned(path: Path, learned: LearnedToken) -> None:
    """Write a token for diffusers' `pipeline.load_textual_inversion(path)`, atomically."""
    with drafted(path) as draft:
        save_file({learned.token: learned.vector.detach().cpu().float()[None].contiguous()}, draft)


def check_new(tokenizer: CLIPTokenizer, token: str, origin: str) -> None:
    """Check that a token is not in the tokenizer (else UserError, whose message starts with `origin`)."""
    pieces = tokenizer(token, add_special_tokens=False).input_ids
    if token in tokenizer.get_vocab() or (len(pieces) == 1 and pieces[0] != tokenizer.unk_token_id):
        raise UserError(
            f"{origin}: the token {token!r} exists already in this model's tokenizer; choose another, e.g. "
            f"<my-{token.strip('<>')}>"
        )


def add_token(
    tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, learned: LearnedToken, origin: str
) -> ExtendedEmbedding:
    """Add a token to tokenizer and text encoder, in place. Return the embedding with its vector.

    Args:
        tokenizer: of the model.
        text_encoder: of the model.
        learned: the token.
        origin: origin of the token, at the start of errors.

    Raises:
        UserError: the tokenizer already has the token, or the encoder's vectors have another width.
    """
    check_new(tokenizer, learned.token, origin)
    width = text_encoder.config.hidden_size
    if learned.vector.shape != (width,):
        raise UserError(
            f"{origin}: the vector of {learned.token!r} has {len(learned.vector)} channels, this model's text encoder {width}: "
            "it was learned with another model; learn it with this one, or name that one as model.weights"
        )
    tokenizer.add_tokens(learned.token)
    table = ExtendedEmbedding(text_encoder.get_input_embeddings(), learned.vector)
    assert tokenizer.convert_tokens_to_ids(learned.token) == table.table.num_embeddings
    text_encoder.set_input_embeddings(table)
    return table
