"""Loads the networks of a diffusers folder, and checks that they are whole and fit each other."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from diffusers import AutoencoderKL, AutoencoderTiny, ModelMixin
from diffusers.loaders.single_file_utils import SingleFileComponentError
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel

from tadp_ray.backbones.latent.autoencoder import Autoencoder
from tadp_ray.errors import UserError
from tadp_ray.hub import quiet_transformers
from tadp_ray.tensors import not_finite, tensor_names

UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, SafetensorError, SingleFileComponentError)
"""Errors of the loaders for files that are damaged, missing or in another format."""
Network = TypeVar("Network", bound=nn.Module)


@contextmanager
def explained(weights: str, path: Path, layout: str) -> Iterator[None]:
    """In the `with` block, load files quietly, and turn errors of the loaders into a UserError with the mend."""
    # Mismatches are reported below.
    diffusers_logging.disable_progress_bar()
    quiet_transformers()
    try:
        yield
    except UserError as error:
        raise UserError(f"model.weights={weights!r}: {path} cannot be loaded: {error}") from None
    except UNREADABLE as error:
        hint = layout
        if path.is_file():
            hint = "its configuration comes from the hub; without a network name a diffusers folder"
        if path.suffix in (".ckpt", ".pt", ".bin"):
            hint += "; what holds more than tensors is not read, get it as .safetensors"
        raise UserError(f"model.weights={weights!r}: {path} cannot be loaded ({error}); {hint}") from None


def fit_tokenizer(
    weights: str,
    path: Path,
    tokenizer: Any,
    text_encoder: PreTrainedModel,
    length: int,
    *,
    part: str = "tokenizer",
    padded: int = 0,
) -> None:
    """Set a tokenizer's length to what a text encoder reads, after a check that it belongs to it.

    Args:
        weights: for the error.
        path: for the error.
        tokenizer: of transformers.
        text_encoder: of transformers.
        length: tokens of a text.
        part: subfolder of the tokenizer.
        padded: rows of the encoder's embedding that may have no token.

    Raises:
        UserError: they have different numbers of tokens.
    """
    # From a folder without a vocabulary, transformers makes an empty tokenizer without a warning.
    known, embedded = len(tokenizer), text_encoder.get_input_embeddings().num_embeddings
    if not embedded - padded <= known <= embedded:
        files = " and ".join(name for key, name in tokenizer.vocab_files_names.items() if key != "tokenizer_file")
        raise UserError(
            f"model.weights={weights!r}: {path} has a tokenizer of {known} tokens and a text encoder of {embedded}; "
            f"put the {files} that belong to the text encoder into {part}/"
        )
    # diffusers' pipelines pad prompts to the tokenizer's length, and some tokenizers of CLIP have none or another one.
    tokenizer.model_max_length = length


def differing(unet: Mapping[str, Any], wanted: Mapping[str, tuple[object, str]]) -> list[str]:
    """Return the settings of a U-Net that differ from those wanted, each with a reason."""
    problems = [f"{key} {unet[key]}, not {value} ({why})" for key, (value, why) in wanted.items() if unet[key] != value]
    if not isinstance(unet["sample_size"], int):
        problems.append(
            f"sample_size {unet['sample_size']}, not the side of the latents of its pretraining (64 in version 1.5)"
        )
    return problems


def check_finite(path: Path, networks: Mapping[str, nn.Module]) -> None:
    """Check that all weights are finite.

    Raises:
        UserError: one is not. The message contains its file and name.
    """
    for part, network in networks.items():
        if name := not_finite(network.state_dict()):
            files = sorted((path / part).glob("*.safetensors"))
            place = next(
                (file for file in files if name in tensor_names(file)), path if path.is_file() else path / part
            )
            raise UserError(f"{place}: {name} of the {part} holds NaN or infinity; fetch or make the weights again")


def weight_variant(folder: Path) -> str | None:
    """Return the variant of the weights to load from a network's folder: None, or "fp16" if there is no other.

    Raises:
        UserError: there are only pickled weights.
    """
    names = [file.name for file in folder.glob("*.safetensors")]
    if pickled := [] if names else sorted(file.name for file in folder.glob("*.bin")):
        raise UserError(
            f"{folder} holds pickled weights alone ({', '.join(pickled)}), which may run code when they are read; get this "
            "model's .safetensors files"
        )
    return "fp16" if names and all(".fp16" in name for name in names) else None


def frozen(network: Network) -> Network:
    """Return the network in float32, in evaluation mode, without gradients."""
    return network.float().eval().requires_grad_(False)


def autoencoder_in(path: Path) -> type[Autoencoder]:
    """Return the class of the autoencoder in a diffusers folder.

    Raises:
        UserError: its latents are shifted or scaled per channel, and a single factor is all that `latent_scale` gives.
    """
    config = AutoencoderKL.load_config(path, subfolder="vae")
    # A shift of 0, which AutoencoderTiny writes, is none.
    if given := [key for key in ("latents_mean", "latents_std", "shift_factor") if config.get(key)]:
        raise UserError(
            f"vae/config.json: {given[0]}={config[given[0]]!r}: latents are scaled by scaling_factor alone here; name the "
            "weights of a model whose VAE has no other scaling"
        )
    # TAESD, a small autoencoder, has the same latents and takes a fraction of the time.
    return AutoencoderTiny if config["_class_name"] == "AutoencoderTiny" else AutoencoderKL


def load_part(loader: type, path: Path, part: str) -> nn.Module:
    """Load one network from a diffusers folder.

    Raises:
        UserError: the tensors do not match the configuration. The loaders themselves would initialize missing tensors at
            random and ignore unexpected ones.
    """
    options = {"subfolder": part, "variant": weight_variant(path / part)}
    load = partial(loader.from_pretrained, path, **options, use_safetensors=True, output_loading_info=True)
    try:
        network, info = load()
    except (RuntimeError, ValueError):
        # Some shapes differ, and the loaders report none or only the first. A second, slow load lists them all.
        slow = {"low_cpu_mem_usage": False} if issubclass(loader, ModelMixin) else {}
        network, info = load(ignore_mismatched_sizes=True, **slow)
    problems = [
        f"{name} {tuple(stored)} where {part}/config.json means {tuple(meant)}"
        for name, stored, meant in sorted(info["mismatched_keys"])
    ]
    problems += [f"{name} is missing" for name in sorted(info["missing_keys"])]
    problems += [f"{name} has no place in the configured network" for name in sorted(info["unexpected_keys"])]
    if problems:
        raise UserError(
            f"{part}/ holds weights of another architecture than its config.json, {len(problems)} tensors differ: "
            + "; ".join(problems[:4])
        )
    return network
