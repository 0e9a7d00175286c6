"""The sources of contexts of this package, and facts on a recipe's sources that need no torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadp_ray.conditioning.encoder_files import encoder_digest
from tadp_ray.config.context import ContextConfig
from tadp_ray.errors import UserError
from tadp_ray.registry import CONTEXT_SOURCES, implementation

if TYPE_CHECKING:
    # Their import takes seconds, and planning needs only hashes.
    from torch import nn

    from tadp_ray.conditioning.base import ContextSource, ImageEncoder


def source_of(config: Any) -> "ContextSource":
    """Return the registered source of a group in `model.context.sources`."""
    return implementation(CONTEXT_SOURCES[config.kind].implementation)


def context_length(context: ContextConfig, text: int) -> int:
    """Return the number of context vectors of all sources together.

    Args:
        context: the recipe's `model.context`.
        text: length of the context of a caption.

    Raises:
        UserError: vectors are summed, and the sources have different numbers of them.
    """
    lengths = [source_of(source).length(source, text) for source in context.sources]
    if context.join == "concatenate":
        return sum(lengths)
    if len({*lengths}) > 1:
        numbers = ", ".join(f"{kind} {length}" for kind, length in zip(context.kinds, lengths, strict=True))
        raise UserError(
            f"model.context.join=sum: the sources have different numbers of vectors ({numbers}); give them a count of "
            f"{lengths[0]}, or use join: concatenate"
        )
    return lengths[0]


def source_places(context: ContextConfig) -> dict[str, str | Path]:
    """Return the files and folders of all sources by the names of their hashes."""
    return {name: place for each in context.sources for name, place in source_of(each).places(each).items()}


def source_digests(context: ContextConfig) -> dict[str, str]:
    """Return the content hashes of the files of all sources."""
    return {name: digest for each in context.sources for name, digest in source_of(each).digests(each).items()}


class WithoutFiles:
    """Base class of a `tadp_ray.conditioning.base.ContextSource` that reads no files."""

    @staticmethod
    def load(config: Any) -> "ImageEncoder | None":
        """Return None: there is no image encoder."""
        return None

    @staticmethod
    def places(config: Any) -> dict[str, str | Path]:
        """Return no files."""
        return {}

    @staticmethod
    def digests(config: Any) -> dict[str, str]:
        """Return no hashes."""
        return {}


class TextSource(WithoutFiles):
    """The context of the caption."""

    @staticmethod
    def length(config: Any, text: int) -> int:
        """Return the length of a caption's context."""
        return text

    @staticmethod
    def build(config: Any, width: int, encoder: "ImageEncoder | None") -> "nn.Module":
        """Return the module that returns the caption's context unchanged."""
        from tadp_ray.conditioning.context import CaptionContext

        return CaptionContext()


class LearnedSource(WithoutFiles):
    """Trained vectors, the same for every image."""

    @staticmethod
    def length(config: Any, text: int) -> int:
        """Return their number."""
        return config.count

    @staticmethod
    def build(config: Any, width: int, encoder: "ImageEncoder | None") -> "nn.Module":
        """Return the vectors."""
        from tadp_ray.conditioning.context import LearnedVectors

        return LearnedVectors(config.count, width, config.lr_mult)


class ImageSource:
    """What a frozen image encoder says about a view, mapped to context vectors."""

    @staticmethod
    def length(config: Any, text: int) -> int:
        """Return the number of vectors that the embedding is mapped to."""
        return config.vectors

    @staticmethod
    def build(config: Any, width: int, encoder: "ImageEncoder | None") -> "nn.Module":
        """Return the map from embeddings to vectors."""
        from tadp_ray.conditioning.context import make_map

        assert encoder is not None
        return make_map(config, encoder.width, width)

    @staticmethod
    def load(config: Any) -> "ImageEncoder | None":
        """Load the image encoder."""
        from tadp_ray.conditioning.image_encoder import load_image_encoder

        return load_image_encoder(config.encoder, config.output)

    @staticmethod
    def places(config: Any) -> dict[str, str | Path]:
        """Return the folder or hub id of the image encoder."""
        return {"image_encoder": config.encoder}

    @staticmethod
    def digests(config: Any) -> dict[str, str]:
        """Return the hash of the image encoder's weights and configuration."""
        return {"image_encoder": encoder_digest(config.encoder)}
