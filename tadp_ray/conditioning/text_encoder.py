"""Encodes prompts as contexts with the frozen CLIP text encoder: as a text, name by name, or as one vector per name."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tadp_ray.captions.sources import Prompt
from tadp_ray.captions.templates import SINGLE, TEMPLATES
from tadp_ray.config.data import CaptionConfig
from tadp_ray.errors import UserError
from tadp_ray.files import drafted
from tadp_ray.registry import ENCODINGS, implementation
from tadp_ray.tensors import is_finite, read_foreign
from tadp_ray.wording import type_named

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

EMBEDDING_TOKENS = 20
"""Sequence length of the published class embeddings."""
BATCH = 16
"""Texts that a GPU encodes at once: one takes it as long as sixteen, most of it to start some 300 kernels."""


def count_tokens(tokenizer: "CLIPTokenizer", prompt: str) -> int:
    """Count the tokens of a prompt without the bos and eos tokens."""
    return len(tokenizer(prompt, add_special_tokens=False, truncation=False, verbose=False).input_ids)


def leading_tokens(tokenizer: Any) -> int:
    """Return the number of special tokens before those of a prompt: one of CLIP's tokenizer, none of T5's; both end with one."""
    return tokenizer.num_special_tokens_to_add() - 1


def encode_prompts(
    tokenizer: "CLIPTokenizer", text_encoder: "CLIPTextModel", prompts: Sequence[str]
) -> Float[Tensor, "prompts tokens width"]:
    """Return the last hidden states after the final layer norm, (B, L, D), with L the encoder's full length (77 in SD 1.5).

    Of Stable Diffusion XL and PixArt, return what their encoders do.

    Prompts are padded or truncated to the full length; padding is attended to, as in Stable Diffusion, unless its rows are zeros.
    """
    length = text_encoder.config.max_position_embeddings
    tokens = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return text_encoder(tokens.input_ids.to(text_encoder.device)).last_hidden_state


def encode_names(
    tokenizer: "CLIPTokenizer", text_encoder: "CLIPTextModel", names: Sequence[str]
) -> Float[Tensor, "tokens width"]:
    """Encode each name separately: the bos state, then the states of every name's own tokens, (1 + tokens, D).

    Source: TADP's Pascal code; neither eos tokens nor padding, 24 tokens for the 21 names of VOC. Rows behind those of tokens,
    of an encoder that adds a pooled vector of the text, are averaged over names. T5 has no bos token.
    """
    length, first = text_encoder.config.max_position_embeddings, leading_tokens(tokenizer)
    parts, added = [], []
    for name in names:
        states = encode_prompts(tokenizer, text_encoder, [name])[0]
        parts.append(states[:length][0 if not parts else first : first + count_tokens(tokenizer, name)])
        added.append(states[length:])
    return torch.cat([*parts, torch.stack(added).mean(0)])


@torch.no_grad()
def class_embedding(
    tokenizer: "CLIPTokenizer", text_encoder: "CLIPTextModel", name: str, templates: Sequence[str] = TEMPLATES
) -> Float[Tensor, " width"]:
    """Return the state at the eos token (after the final layer norm, not projected), averaged over templates, (D,).

    Source: TADP's and VPD's class embeddings ("averaged EOS").
    """
    length = min(EMBEDDING_TOKENS, text_encoder.config.max_position_embeddings)
    sentences = [template.format(name) for template in templates]
    tokens = tokenizer(sentences, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return text_encoder(tokens.input_ids.to(text_encoder.device)).pooler_output.mean(0)


def read_class_embeddings(path: Path, classes: Sequence[str], width: int) -> dict[str, Tensor]:
    """Read the vector (D,) of each class from a file of (C, D): the published .pth, or our .safetensors.

    The latter names its classes, which may be in another order. In the former the order of the classes counts.

    Raises:
        UserError: the file does not exist or is invalid, names other classes, or has another number of them or of channels.
    """
    place, command = f"caption.embeddings={str(path)!r}", "tadp-ray caption class-embeddings"
    if not path.is_file():
        raise UserError(f"{place}: there is no such file; {command} makes it, or leave the key out")
    try:
        contents = read_foreign(path)
    except UserError as error:
        raise UserError(f"caption.embeddings: {error}, or make it with {command}") from None
    vectors = contents.get("embeddings") if isinstance(contents, dict) else contents
    if not isinstance(vectors, Tensor) or not vectors.is_floating_point():
        raise UserError(f"{place}: holds no vectors of classes; make them with {command}")
    if not is_finite(vectors):
        raise UserError(f"{place}: holds NaN or infinity; make it with {command}")
    shape = tuple(vectors.shape)
    if shape != (len(classes), width):
        raise UserError(
            f"{place}: holds {shape}, but this data set has {len(classes)} classes and this model's contexts {width} channels; "
            f"make them with {command}"
        )
    names = named_classes(path) or classes
    if other := sorted({*names} ^ {*classes}):
        raise UserError(
            f"{place}: names other classes than this data set ({', '.join(other[:4])}); make them with {command}"
        )
    found = dict(zip(names, vectors.float(), strict=True))
    return {name: found[name] for name in classes}


def named_classes(path: Path) -> list[str] | None:
    """Return the class names in a file of class embeddings, in their order there; None if it has none."""
    if path.suffix != ".safetensors":
        return None
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    return json.loads(metadata["classes"]) if "classes" in metadata else None


def write_class_embeddings(path: Path, names: Sequence[str], vectors: Sequence[Tensor]) -> None:
    """Write the vectors (D,) of named classes to a .safetensors file, atomically."""
    with drafted(path) as draft:
        save_file({"embeddings": torch.stack(list(vectors))}, draft, {"classes": json.dumps(list(names))})


Encoder = Callable[[Sequence[Prompt]], Iterable[Tensor]]
"""Encodes each prompt as a context (L, D)."""


def make_text_encoder(
    tokenizer: "CLIPTokenizer", text_encoder: "CLIPTextModel", caption: CaptionConfig, classes: Sequence[str]
) -> Encoder:
    """Return the function that encodes prompts as contexts (L, D), from a recipe's `caption` group.

    The function raises UserError if the encoding, which may be a plug-in's, returns anything else.
    """
    encode = implementation(ENCODINGS[caption.encoding].implementation)(tokenizer, text_encoder, caption, classes)

    def checked(prompt: Prompt, context: Any) -> Tensor:
        if not isinstance(context, Tensor) or context.ndim != 2 or not len(context):
            found = f"shape {tuple(context.shape)}" if isinstance(context, Tensor) else type_named(context)
            raise UserError(
                f"encoding {caption.encoding!r}: context of {prompt!r} is {found}; expected a tensor (L, D)"
            )
        return context

    # A CPU encodes one text at a time: there, the last digits would depend on its place in the batch.
    batched = caption.encoding == "text" and text_encoder.device.type == "cuda"

    def encoded(prompts: Sequence[Prompt]) -> Iterator[Tensor]:
        texts = cast("Sequence[str]", prompts)
        contexts = in_batches(tokenizer, text_encoder, texts) if batched else map(encode, prompts)
        return map(checked, prompts, contexts)

    return encoded


def in_batches(
    tokenizer: "CLIPTokenizer", text_encoder: "CLIPTextModel", texts: Sequence[str]
) -> Iterator[Float[Tensor, "tokens width"]]:
    """Yield the contexts of texts, encoded in full batches, so that a context does not depend on their number."""
    for first in range(0, len(texts), BATCH):
        chunk = texts[first : first + BATCH]
        yield from encode_prompts(tokenizer, text_encoder, [*chunk, *[""] * (BATCH - len(chunk))])[: len(chunk)]


def whole_texts(
    tokenizer: "CLIPTokenizer", text_encoder: "CLIPTextModel", _: CaptionConfig, __: Sequence[str]
) -> Callable[[str], Tensor]:
    """Return the encoding `text`: the prompt as one text."""
    return lambda text: encode_prompts(tokenizer, text_encoder, [text])[0]


def name_by_name(
    tokenizer: "CLIPTokenizer", text_encoder: "CLIPTextModel", _: CaptionConfig, __: Sequence[str]
) -> Callable[[Sequence[str]], Tensor]:
    """Return the encoding `names`: each name separately."""
    return lambda names: encode_names(tokenizer, text_encoder, names)


def class_vectors(
    tokenizer: "CLIPTokenizer", text_encoder: "CLIPTextModel", caption: CaptionConfig, classes: Sequence[str]
) -> Callable[[Sequence[str]], Tensor]:
    """Return the encoding `class_embeddings`: one vector per name, from a file or from the encoder."""
    if caption.embeddings:
        width = text_encoder.config.hidden_size
        table = read_class_embeddings(caption.embeddings, classes, width)
        return lambda names: torch.stack([table[name] for name in names])
    templates = TEMPLATES if caption.templates == "averaged" else [SINGLE]
    return lambda names: torch.stack([class_embedding(tokenizer, text_encoder, name, templates) for name in names])


class TextAdapter(nn.Module):
    """Maps a context c to c + gamma * MLP(c), token by token; gamma is learned per channel.

    Rows of zeros, which are padding, stay zeros.

    Source: VPD's text adapter; two linear layers with a GELU between them, gamma initialized to 1e-4.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.gamma = nn.Parameter(torch.full((width,), 1e-4))

    def forward(self, context: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Return the adapted context (B, L, D)."""
        adapted = context + self.gamma * self.layers(context)
        return torch.where(context.any(-1, keepdim=True), adapted, context)
