"""What all latent diffusion models share: a frozen VAE, a text encoder, a noise schedule, and their sizes in pixels."""

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from tadp_ray.backbones.latent.attention import Layers
from tadp_ray.backbones.latent.autoencoder import Autoencoder
from tadp_ray.backbones.latent.denoising import NoiseSchedule, build_schedule, load_schedule
from tadp_ray.backbones.latent.load import frozen
from tadp_ray.backbones.latent.weights import PARTS
from tadp_ray.config.vocabulary import Maps


class LatentDiffusion:
    """Base class of the frozen networks of a family, without those that are trained in copies."""

    if TYPE_CHECKING:
        # Fields of frozen dataclasses, which would take properties for default values.
        @property
        def vae(self) -> Autoencoder:
            """The autoencoder of images."""

        @property
        def text_encoder(self) -> Any:
            """A text encoder of transformers, or one that is called like it."""

        @property
        def tokenizer(self) -> Any:
            """A tokenizer of transformers, cut to the tokens that the text encoder reads."""

        @property
        def learned_token(self) -> str:
            """A token that was added to the tokenizer and the text encoder. Empty: none."""

        @property
        def weights(self) -> str:
            """Where they are from. Empty: an architecture without files."""

    parts: ClassVar[tuple[str, ...]] = PARTS
    """Subfolders of its diffusers folder."""
    pooled_rows: ClassVar[int] = 0
    """Rows of a context that are no tokens but a vector of the whole text."""
    layer_choices: ClassVar[tuple[str, ...]] = ()
    """The choices of `model.layers` that are not names of layers."""

    @property
    def denoiser(self) -> Any:
        """The U-Net or transformer."""
        raise NotImplementedError

    @property
    def text_network(self) -> Any:
        """The text encoder as transformers' class."""
        return self.text_encoder

    def with_networks(self, vae: Autoencoder, denoiser: Any, text_encoder: Any) -> Self:
        """Return the same model with another VAE, another U-Net or transformer, and another text encoder."""
        raise NotImplementedError

    def to_meta(self) -> Self:
        """Return the same architecture on the meta device, without data."""
        with torch.device("meta"):
            vae, denoiser = (type(network).from_config(network.config) for network in (self.vae, self.denoiser))
            text_encoder = type(self.text_encoder)(self.text_encoder.config)
        return self.with_networks(frozen(vae), denoiser, frozen(text_encoder))

    def predict(self, latents: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        """Return the denoiser's prediction (B, C, h, w) for noisy latents (B, C, h, w), timesteps (B,) and contexts (B, L, D)."""
        raise NotImplementedError

    def features(
        self,
        latents: Tensor,
        timesteps: Tensor,
        context: Tensor,
        maps: Maps,
        layers: Any,
        map_layers: Any,
    ) -> tuple[Tensor, ...]:
        """Return the features of one pass, largest level first, and leave the denoiser as it was.

        Args:
            latents: (B, C, h, w).
            timesteps: (B,).
            context: (B, L, D).
            maps: attention maps to append.
            layers: to read, as `model.layers`; None: the family's default.
            map_layers: over whose maps are averaged, as `model.map_layers`; None: the family's default.

        Raises:
            UserError: the denoiser has no such layers or maps, or the latents do not fit it.
        """
        raise NotImplementedError

    def attention_layers(self, latents: Tensor, context: Tensor, timestep: int) -> Layers:
        """Return the cross-attention maps of every layer by name, from one pass over latents (B, C, h, w) without noise."""
        raise NotImplementedError

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule, which only some uses need; Stable Diffusion's for an architecture without files.

        Raises:
            UserError: see `load_schedule`.
        """
        return load_schedule(self.weights, self.parts) if self.weights else build_schedule("epsilon")

    @cached_property
    @torch.compiler.disable
    def vae_in_bfloat16(self) -> Autoencoder:
        """A copy of the VAE, made on first use on the VAE's device at that time."""
        return copy.deepcopy(self.vae).bfloat16()

    @property
    def image_encoder(self) -> nn.Module:
        """The VAE's encoder."""
        return self.vae.encoder

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """VAE and text encoder. The denoiser is not among them, since cells train copies of it."""
        return self.vae, self.text_encoder

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per feature pixel along a side, for each level of the features, largest first."""
        raise NotImplementedError

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level of the features by default, without attention maps."""
        raise NotImplementedError

    @property
    def multiple(self) -> int:
        """Image sides must be multiples of this many pixels: the smallest level's stride."""
        return self.strides[-1]

    @property
    def side(self) -> int:
        """Height and width in pixels of the images that the denoiser was pretrained on."""
        return self.denoiser.config.sample_size * self.factor

    @property
    def factor(self) -> int:
        """Image pixels per latent pixel along a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def tokens(self) -> int:
        """Length of the context of a whole text: 77 in Stable Diffusion 1.5."""
        return self.text_encoder.config.max_position_embeddings + self.pooled_rows

    def to(self, device: torch.device, *, whole: bool = False) -> Self:
        """Move VAE and text encoder to a device; `whole`: the denoiser, too, of which each cell trains a copy."""
        for network in (self.vae, self.text_encoder, *([self.denoiser] if whole else [])):
            network.to(device)
        return self
