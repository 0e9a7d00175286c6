"""The training scenes of a pretraining: rendered and encoded once, in files on disk that survive an interruption."""

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tadp_ray.backbones.latent.autoencoder import Autoencoder
from tadp_ray.captions.describe import Mention, class_list, sentence
from tadp_ray.config.vocabulary import Style
from tadp_ray.data.drawings import SYNONYMS
from tadp_ray.data.scenes import THINGS, WORLD, World, around, mentions, present_classes, render
from tadp_ray.data.styles import STYLES
from tadp_ray.layout import LATENTS
from tadp_ray.paper.pocket.autoencoder import encode
from tadp_ray.training.checkpoint import cached, read_tensors
from tadp_ray.training.distributed import ProcessGroup

PIECE = 1024
"""Scenes per file."""


CLOSE_UP = replace(WORLD, objects=(1, 2), foot=(0.40, 0.60))
"""One or two large objects, which teach names sooner."""
CROWD = replace(WORLD, objects=(4, 6), foot=(0.30, 0.60))
"""More and larger objects than in labelled scenes; they cover half of the picture, so that a scene teaches more names."""
COMPOSITIONS = (CLOSE_UP, WORLD, CROWD)
"""Scenes of the pretraining are of these in turn."""
OTHER_STYLES: dict[int, Style] = {place: style for place, style in enumerate(("night", "watercolor", "comic") * 2)}
"""Among each `STYLE_CYCLE` scenes, those in other styles than photo, by place."""
STYLE_CYCLE = 20
SYNONYM_SHARE = 0.15
"""How often captions call a thing by a synonym, if it has one."""
CALLED = (*THINGS, *(word for words in SYNONYMS.values() for word in words))


@dataclass(frozen=True)
class SceneCaptions:
    """What captions of a scene say: the names of its visible classes, its objects, and what kind of picture it is."""

    names: tuple[str, ...]
    things: tuple[Mention, ...]
    work: str

    def draw(self, rng: np.random.Generator, drop: float = 0.1) -> str:
        """Return a random caption, empty with probability `drop`.

        It is a list of names, such a list in a phrase that names the style, a sentence, or a captioner's sentence with counts
        and places. The names are in random order, and some are synonyms.
        """
        kind, order = rng.random(), rng.permutation(len(self.names))
        called = {name: _called(name, rng) for name in self.names}
        names = [called[self.names[place]] for place in order]
        if kind < drop:
            return ""
        if kind < 0.4:
            return class_list(names)
        if kind < 0.55:
            return f"a {self.work} of {class_list(names)}"
        if kind < 0.8:
            return sentence(names, CALLED, self.work)
        return around([replace(thing, name=called[thing.name]) for thing in self.things], self.names, self.work)


def _called(name: str, rng: np.random.Generator) -> str:
    others = SYNONYMS.get(name, ())
    return others[rng.integers(len(others))] if others and rng.random() < SYNONYM_SHARE else name


def style_of(index: int) -> Style:
    """Return the style of a scene of the pretraining: photo in fourteen of twenty."""
    return OTHER_STYLES.get(index % STYLE_CYCLE, "photo")


def world_of(index: int) -> World:
    """Return the parameters of a scene of the pretraining."""
    return COMPOSITIONS[index % len(COMPOSITIONS)]


@dataclass(frozen=True)
class LatentCache:
    """`count` pretraining scenes of one seed, in files of a folder."""

    folder: Path
    seed: int
    count: int
    size: int

    def render(self, world: ProcessGroup, say: Callable[[str], None]) -> None:
        """Render the missing scenes, split among the processes."""
        for piece in self._pieces(world):

            def make(indices: range = self._indices(piece)) -> tuple[dict[str, Tensor], dict[str, Any]]:
                scenes = [
                    render("pretrain", self.seed, index, self.size, style_of(index), world_of(index))
                    for index in indices
                ]
                captions = [
                    (
                        present_classes(scene.mask),
                        [astuple(thing) for thing in mentions(scene)],
                        STYLES[style_of(index)].work,
                    )
                    for index, scene in zip(indices, scenes, strict=True)
                ]
                images, masks = (np.stack([getattr(scene, part) for scene in scenes]) for part in ("image", "mask"))
                say(f"scenes: {indices.stop} of {self.count} rendered")
                return {"images": torch.from_numpy(images), "masks": torch.from_numpy(masks)}, {"words": captions}

            cached(self._path("scenes", piece), self._label(piece), make)
        world.barrier()

    def encode(self, vae: Autoencoder, device: torch.device, world: ProcessGroup, say: Callable[[str], None]) -> None:
        """Encode the missing unscaled latents, split among the processes."""
        for piece in self._pieces(world):

            def make(piece: int = piece) -> tuple[dict[str, Tensor], dict[str, Any]]:
                mean, std = encode(vae, read_tensors(self._path("scenes", piece))[0]["images"], device)
                say(f"latents: {self._indices(piece).stop} of {self.count} encoded")
                return {"mean": mean.cpu(), "std": std.cpu()}, {}

            cached(self._path(LATENTS, piece), self._label(piece), make)
        world.barrier()

    def images(self) -> Tensor:
        """Return all images, uint8 (N, H, W, 3)."""
        return torch.cat([read_tensors(path)[0]["images"] for path in self._files("scenes")])

    def masks(self) -> Tensor:
        """Return all label maps, uint8 (N, H, W) class indices."""
        return torch.cat([read_tensors(path)[0]["masks"] for path in self._files("scenes")])

    def captions(self) -> list[SceneCaptions]:
        """Return the captions of each scene."""
        entries = [entry for path in self._files("scenes") for entry in read_tensors(path)[1]["words"]]
        return [
            SceneCaptions(tuple(names), tuple(Mention(*thing) for thing in things), work)
            for names, things, work in entries
        ]

    def latents(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the unscaled latents, each (N, 4, h, w)."""
        parts = [read_tensors(path)[0] for path in self._files(LATENTS)]
        return torch.cat([part["mean"] for part in parts]), torch.cat([part["std"] for part in parts])

    def _pieces(self, world: ProcessGroup) -> range:
        self.folder.mkdir(parents=True, exist_ok=True)
        return range(world.rank, -(-self.count // PIECE), world.size)

    def _indices(self, piece: int) -> range:
        return range(piece * PIECE, min((piece + 1) * PIECE, self.count))

    def _label(self, piece: int) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "size": self.size,
            "first": self._indices(piece).start,
            "stop": self._indices(piece).stop,
        }

    def _files(self, kind: str) -> list[Path]:
        return [self._path(kind, piece) for piece in range(-(-self.count // PIECE))]

    def _path(self, kind: str, piece: int) -> Path:
        return self.folder / f"{kind}-{piece:03d}.safetensors"
