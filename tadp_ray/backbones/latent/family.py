"""Loads the frozen networks of latent diffusion models, and locates and hashes their files. Needs no torch: planning is fast."""

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, ClassVar

from tadp_ray.backbones.latent.weights import lacks_weights, schedule_file
from tadp_ray.errors import UserError
from tadp_ray.files import file_digest


class LatentFamily:
    """Base class of a `tadp_ray.backbones.base.Family` whose weights are a diffusers folder.

    Its functions import their modules when they are called (`tadp_ray.registry.deferred`).
    """

    title: ClassVar[str]
    """The published model of `published`."""
    parts: ClassVar[tuple[str, ...]]
    """Subfolders of the diffusers folder."""
    denoiser: ClassVar[str] = "unet"
    """The one of the U-Net or transformer."""
    locate: ClassVar[Callable[[str], Path]]
    """Returns the folder of weights, without loading."""
    digest: ClassVar[Callable[[str], str]]
    """Returns the hash of the contents of weights and configurations."""
    open_weights: ClassVar[Callable[..., Any]]
    """Loads the networks; its arguments are those of an origin, of which the weights suffice."""
    described: ClassVar[Callable[[str, Path], Any]]
    """Returns the architecture of the configurations of weights in a folder, on the meta device."""
    published: ClassVar[Callable[[], Any]]
    """Returns a published architecture on the meta device, whose sizes stand for those of missing weights."""
    load_generator: ClassVar[Callable[[str], Any] | None] = None
    """Loads an `ImageGenerator` of weights, on the CPU. None: the family draws no images."""

    @classmethod
    def origin(cls, config: Any, seed: int) -> Hashable:
        """Return the weights."""
        return (config.weights,)

    @classmethod
    def load(cls, origin: Any) -> Any:
        """Load the frozen networks."""
        return cls.open_weights(*origin)

    @classmethod
    def sizes(cls, config: Any) -> tuple[Any, str]:
        """Load the networks; without weights, return on the meta device those of configurations or published, and a note."""
        try:
            path = cls.locate(config.weights)
        except UserError:
            # Files that exist but cannot be loaded are an error.
            if config.weights == "pocket" or Path(config.weights).exists():
                raise
            return cls.published(), f"weights: {config.weights} is missing; using the sizes of {cls.title}"
        if lacks_weights(path, cls.denoiser):
            networks = cls.described(config.weights, path)
            return networks, f"weights: {path} holds configurations alone; using their sizes"
        return cls.open_weights(config.weights), ""

    @classmethod
    def places(cls, config: Any) -> dict[str, str | Path]:
        """Return the weights, the file of a learned token if there is one, and where the schedule of added noise is."""
        places = {"weights": config.weights}
        if token := getattr(config, "embeddings", None):
            places["token"] = token
        if config.noise_samples:
            places["schedule"] = config.weights
        return places

    @classmethod
    def digests(cls, config: Any) -> dict[str, str]:
        """Return the content hashes of the weights, of a learned token, and of the schedule of added noise."""
        hashes: dict[str, Callable[[Any], str]] = {
            "weights": cls.digest,
            "token": file_digest,
            "schedule": lambda weights: file_digest(schedule_file(weights, cls.parts)),
        }
        return {name: hashes[name](place) for name, place in cls.places(config).items()}
