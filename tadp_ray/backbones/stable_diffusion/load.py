"""Loads a Stable Diffusion 1.x or 2.x of any size from a diffusers folder, the hub or a single file."""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ModelMixin, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import SingleFileComponentError
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from tadp_ray.backbones.latent_diffusion import LatentDiffusion
from tadp_ray.backbones.stable_diffusion.attention import Layers, read_layers, text_alone
from tadp_ray.backbones.stable_diffusion.autoencoder import Autoencoder
from tadp_ray.backbones.stable_diffusion.learned_tokens import add_token, read_learned
from tadp_ray.backbones.stable_diffusion.weights import LAYOUT, check_kind, locate
from tadp_ray.errors import UserError
from tadp_ray.tensors import not_finite

UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, SafetensorError, SingleFileComponentError)
"""Errors of the loaders for files that are damaged, missing or in another format."""
Network = TypeVar("Network", bound=nn.Module)
LEVELS = 4
"""Number of levels of the U-Net."""


@dataclass(frozen=True)
class Diffusion(LatentDiffusion):
    """A frozen Stable Diffusion in float32."""

    vae: Autoencoder
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    learned_token: str = ""
    """A token that was added to the tokenizer and the text encoder. Empty: none."""
    weights: str = ""
    """Where they are from, as for `locate`. Empty: an architecture without files."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per feature pixel along a side, for each level of the U-Net, largest first."""
        return tuple(self.factor << level for level in range(len(self.unet.config.block_out_channels)))

    def condition(self, latents: Tensor, context: Tensor) -> Mapping[str, Any]:
        """Return the U-Net's arguments besides latents (B, C, h, w) and timesteps, from contexts (B, L, D)."""
        return text_alone(latents, context)

    @property
    def denoiser(self) -> UNet2DConditionModel:
        """The U-Net."""
        return self.unet

    def with_networks(self, vae: Autoencoder, denoiser: UNet2DConditionModel) -> Self:
        """Return the same model with another VAE and U-Net."""
        return replace(self, vae=vae, unet=denoiser)

    def predict(self, latents: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        """Return the U-Net's prediction (B, C, h, w) for noisy latents (B, C, h, w) at timesteps (B,)."""
        return self.unet(latents, timesteps, return_dict=False, **self.condition(latents, context))[0]

    def attention_layers(self, latents: Tensor, context: Tensor, timestep: int) -> Layers:
        """Return the cross-attention maps of every layer by name; see `read_layers`."""
        return read_layers(self.unet, latents, context, timestep, self.condition)

    def reinitialized(self, seed: int) -> Self:
        """Return the same architecture with random weights in U-Net and text encoder, and the same VAE."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            unet, text_encoder = (
                UNet2DConditionModel.from_config(self.unet.config),
                type(self.text_encoder)(self.text_encoder.config),
            )
        return replace(self, unet=frozen(unet), text_encoder=frozen(text_encoder))

    def to_meta(self) -> Self:
        """Return the same architecture on the meta device, without data."""
        with torch.device("meta"):
            vae = frozen(type(self.vae).from_config(self.vae.config))
            unet = UNet2DConditionModel.from_config(self.unet.config)
            text_encoder = frozen(type(self.text_encoder)(self.text_encoder.config))
        return replace(self, vae=vae, unet=unet, text_encoder=text_encoder)


def open_diffusion(weights: str, embeddings: Path | None = None, random_seed: int | None = None) -> Diffusion:
    """Load a frozen Stable Diffusion as a recipe's `model` describes it.

    Args:
        weights: as for `locate`.
        embeddings: file of a learned token to add.
        random_seed: seed of random weights in U-Net and text encoder (`model.unet_init: random`). None: pretrained.

    Raises:
        UserError: a file is missing, damaged or does not fit.
    """
    diffusion = load_diffusion(weights)
    diffusion = diffusion if random_seed is None else diffusion.reinitialized(random_seed)
    if embeddings is None:
        return diffusion
    learned = read_learned(embeddings)
    add_token(diffusion.tokenizer, diffusion.text_encoder, learned, f"model.embeddings={str(embeddings)!r}")
    frozen(diffusion.text_encoder)
    return replace(diffusion, learned_token=learned.token)


def load_diffusion(weights: str) -> Diffusion:
    """Load VAE, U-Net, text encoder and tokenizer, float32 on the CPU, in evaluation mode, without gradients.

    Raises:
        UserError: see `backbones.stable_diffusion.weights.locate`; or a file is damaged.
    """
    path = locate(weights)
    check_kind(weights, path, "stable_diffusion")
    with explained(weights, path, LAYOUT):
        parts = load_single_file(path) if path.is_file() else load_folder(path)
        check_finite(path, dict(zip(("vae", "unet", "text_encoder"), parts, strict=False)))
    vae, unet, text_encoder, tokenizer = parts
    diffusion = Diffusion(frozen(vae), frozen(unet), frozen(text_encoder), tokenizer, weights=weights)
    check_vocabulary(weights, path, tokenizer, text_encoder, diffusion.tokens)
    check_fit(diffusion, weights, path)
    return diffusion


@contextmanager
def explained(weights: str, path: Path, layout: str) -> Iterator[None]:
    """In the `with` block, load files quietly, and turn errors of the loaders into a UserError with the mend."""
    # Progress bars would break the sweep's display, and mismatches are reported below.
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
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


def check_vocabulary(
    weights: str,
    path: Path,
    tokenizer: Any,
    text_encoder: PreTrainedModel,
    length: int,
    *,
    part: str = "tokenizer",
    padded: int = 0,
) -> None:
    """Check that a tokenizer belongs to a text encoder, and set its length.

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


def check_fit(diffusion: Diffusion, weights: str, path: Path) -> None:
    """Check that the U-Net fits the other networks and this package; `weights` and their `path` are for the error.

    Raises:
        UserError: it does not.
    """
    unet = diffusion.unet.config
    wanted = {
        "in_channels": (diffusion.vae.config.latent_channels, "the VAE's latent_channels"),
        "cross_attention_dim": (diffusion.text_encoder.config.hidden_size, "the text encoder's hidden_size"),
        "addition_embed_type": (None, "nothing but an image and a text"),
        "class_embed_type": (None, "nothing but an image and a text"),
    }
    problems = differing(unet, wanted)
    if len(unet.block_out_channels) != LEVELS:
        problems.append(f"{len(unet.block_out_channels)} levels, not {LEVELS} (as Stable Diffusion 1 and 2 have)")
    if problems:
        raise UserError(
            f"model.weights={weights!r}: {path} is not a Stable Diffusion 1.x or 2.x U-Net: {'; '.join(problems)}; put unet/, "
            "vae/ and text_encoder/ of one model there"
        )


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
            place = next((file for file in files if name in names_in(file)), path if path.is_file() else path / part)
            raise UserError(f"{place}: {name} of the {part} holds NaN or infinity; fetch or make the weights again")


def names_in(file: Path) -> list[str]:
    """Return the names of the tensors in a .safetensors file."""
    with safe_open(file, framework="pt") as tensors:
        return list(tensors.keys())


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


def load_folder(path: Path) -> tuple[Any, ...]:
    """Load VAE, U-Net, text encoder and tokenizer from a diffusers folder."""
    loaders = {"vae": autoencoder_in(path), "unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}
    parts = [load_part(loader, path, part) for part, loader in loaders.items()]
    return *parts, CLIPTokenizer.from_pretrained(path / "tokenizer")


def autoencoder_in(path: Path) -> type[Autoencoder]:
    """Return the class of the autoencoder in a diffusers folder."""
    # TAESD, a small autoencoder, has the same latents and takes a fraction of the time.
    kind = AutoencoderKL.load_config(path, subfolder="vae")["_class_name"]
    return AutoencoderTiny if kind == "AutoencoderTiny" else AutoencoderKL


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
    differing = [
        f"{name} {tuple(stored)} where {part}/config.json means {tuple(meant)}"
        for name, stored, meant in sorted(info["mismatched_keys"])
    ]
    differing += [f"{name} is missing" for name in sorted(info["missing_keys"])]
    differing += [f"{name} has no place in the configured network" for name in sorted(info["unexpected_keys"])]
    if differing:
        raise UserError(
            f"{part}/ holds weights of another architecture than its config.json, {len(differing)} tensors differ: "
            + "; ".join(differing[:4])
        )
    return network


def load_single_file(path: Path) -> tuple[Any, ...]:
    """Load VAE, U-Net, text encoder and tokenizer from a single-file checkpoint; the configuration comes from the hub."""
    if path.suffix == ".safetensors":
        names_in(path)
    elif not zipfile.is_zipfile(path):
        raise UserError("it was cut short, or is no checkpoint; fetch it again, best as .safetensors")
    pipe = StableDiffusionPipeline.from_single_file(path, safety_checker=None)
    return pipe.vae, pipe.unet, pipe.text_encoder, pipe.tokenizer
