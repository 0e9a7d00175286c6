"""Figure S2: a word attends to a look-alike if its object is missing; does it attend to its object once that is pasted?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from tadp_ray.backbones.latent.diffusion import LatentDiffusion
from tadp_ray.conditioning.text_encoder import encode_prompts
from tadp_ray.conditioning.tokenizer import check_length, name_places
from tadp_ray.config.analysis import BasePicture, CopyPaste
from tadp_ray.config.claims import Measured
from tadp_ray.config.recipe import Recipe
from tadp_ray.data.images import read_image, read_rgba
from tadp_ray.data.sample import Dataset
from tadp_ray.data.scenes import CLASSES, LOOK_ALIKES
from tadp_ray.errors import UserError
from tadp_ray.paper.analysis.attention import fitted, image_latents, read_truth, word_maps
from tadp_ray.paper.analysis.finding import Outcome
from tadp_ray.paper.analysis.images import ShownObject, analysis_images, check_names, resized
from tadp_ray.paper.analysis.sheets import highest, overlay, show_scale, tallest
from tadp_ray.paper.localisation import mass
from tadp_ray.pictures.files import write_both
from tadp_ray.wording import with_article

POOL = 5
"""Images searched per case, besides fifty more in total."""
COVERED = 0.1
"""Maximum share of the look-alike that the pasted object may cover."""
DENSITY, SHARE = "times a uniform map", "share of the map"


@dataclass(frozen=True)
class Case:
    """One image before and after an object is pasted."""

    before: np.ndarray
    after: np.ndarray
    """uint8 (H, W, 3)."""
    names: tuple[str, ...]
    """Classes in the prompt; the last is that of the pasted object."""
    other: str
    """Class of the look-alike."""
    look_alike: np.ndarray
    """bool (H, W): pixels of the look-alike that stay visible."""
    pasted: np.ndarray
    """bool (H, W): pixels of the pasted object."""

    @property
    def prompt(self) -> str:
        """The names, separated by spaces."""
        return " ".join(self.names)

    @property
    def word(self) -> str:
        """Class of the pasted object."""
        return self.names[-1]


def copy_paste(config: CopyPaste, recipe: Recipe, seed: int, diffusion: LatentDiffusion, folder: Path) -> Outcome:
    """Paste objects into images and measure the words' attention maps before and after.

    Raises:
        UserError: the data have too few suitable images, or a cut-out cannot be read.
    """
    if config.pictures:
        made, wanted = own_cases(config, diffusion), None
    else:
        dataset, wanted = analysis_images(recipe, seed, 50 + POOL * config.cases), config.cases
        made = make_cases(config, dataset, diffusion)
    cases, places = [], []
    for case in islice(made, wanted):
        maps = maps_of(diffusion, case, config.timestep)
        cases.append((case, maps))
        places.append(measured(case, *maps))
    if len(cases) < (wanted or 1):
        raise UserError(
            f"spec.cases={config.cases}: only {len(cases)} pictures have a look-alike with room for a thing beside it; "
            "lower spec.cases, or add images, cutouts or pairs"
        )
    table = {name: np.array([place[name] for place in places]) for name in places[0]}
    after = table[f"thing after: {DENSITY}"]
    moved = (after > table[f"look-alike after: {DENSITY}"]) & (after > table[f"thing before: {DENSITY}"])
    share = 100 * float(moved.mean())
    numbers = {name: float(values.mean()) for name, values in table.items()}
    lean = float((table[f"look-alike before: {DENSITY}"] > 1).mean()) * 100
    measured_of = {
        "leaning": Measured(lean, len(cases), "cases"),
        "moved": Measured(share, len(cases), "cases"),
    }
    pictures = write_both(draw(cases[:6]), folder / "copy_paste.png")
    return Outcome({**numbers, "moved: percent of cases": share, "cases": len(cases)}, measured_of, pictures)


def measured(case: Case, before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Return, for each object, the density of a word's map relative to a uniform map, and the share of its mass."""
    metrics = {}
    for moment, scores in (("before", before), ("after", after)):
        for name, region in (("look-alike", case.look_alike), ("thing", case.pasted)):
            inside = mass(scores, region)
            metrics[f"{name} {moment}: {DENSITY}"] = inside / region.mean()
            metrics[f"{name} {moment}: {SHARE}"] = inside
    return metrics


@torch.no_grad()
def maps_of(diffusion: LatentDiffusion, case: Case, timestep: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps (H, W) of the pasted object's word before and after: mean over its tokens, all heads and layers."""
    latents = image_latents(diffusion, [case.before, case.after])
    context = encode_prompts(diffusion.tokenizer, diffusion.text_encoder, [case.prompt])
    layers = diffusion.attention_layers(latents, context.expand(2, -1, -1), timestep)
    places = {case.word: name_places(diffusion.tokenizer, case.names)[-1]}
    before, after = word_maps(layers, places, case.before.shape[:2])[case.word]
    return before, after


def make_cases(config: CopyPaste, dataset: Dataset, diffusion: LatentDiffusion) -> Iterator[Case]:
    """Yield one case per image in which an object can be pasted beside its largest object."""
    alike = words_for(config, dataset.classes)
    cutouts = {name: read_cutout(path) for name, path in config.cutouts.items()}
    images = [resized(dataset, index, diffusion) for index in range(min(len(dataset), 50 + POOL * config.cases))]
    for index, (image, things) in enumerate(images):
        present = {thing.name for thing in things}
        words_of = {name: [word for word in alike.get(name, ()) if word not in present] for name in present}
        other = next((thing for thing in things if words_of.get(thing.name)), None)
        if other is None:
            continue
        word = words_of[other.name][index % len(words_of[other.name])]
        given = cutouts.get(word)
        cut = cut_out(images[index + 1 :] + images[:index], word, other) if given is None else scaled(given, other)
        case = None if cut is None else make_case(image, things, cut, word, other, diffusion)
        if case is not None:
            yield case


def make_case(
    image: np.ndarray,
    things: Sequence[ShownObject],
    cut: np.ndarray,
    word: str,
    other: ShownObject,
    diffusion: LatentDiffusion,
) -> Case | None:
    """Paste a cut-out of `word` beside its look-alike; None if there is no room.

    Raises:
        UserError: the prompt is too long for the text encoder.
    """
    pasted = paste(image, cut, things, other)
    if pasted is None:
        return None
    after, region = pasted
    names = (*dict.fromkeys(thing.name for thing in things), word)
    case = Case(image, after, names, other.name, other.region & ~region, region)
    check_length(diffusion.tokenizer, case.prompt)
    return case


def own_cases(config: CopyPaste, diffusion: LatentDiffusion) -> Iterator[Case]:
    """Yield a case for each picture and each pair whose look-alike is in it, in this order.

    Raises:
        UserError: a file does not fit, a pasted thing is in the picture already, or there is no room for it.
    """
    cutouts = {name: read_cutout(path) for name, path in config.cutouts.items()}
    for picture in config.pictures:
        image, things = shown_in(picture, diffusion)
        by_name = {thing.name: thing for thing in things}
        for word, name in config.pairs.items():
            if name not in by_name:
                continue
            if word in by_name:
                raise UserError(
                    f"spec.pairs: {word!r} is already in {picture.path}, as its regions say; paste another thing"
                )
            cut = scaled(cutouts[word], by_name[name])
            if not (cut[..., 3] > 127).any():
                raise UserError(
                    f"spec.cutouts: {config.cutouts[word]} is too thin to be seen at the size of the {name}; take another one"
                )
            case = make_case(image, things, cut, word, by_name[name], diffusion)
            if case is None:
                raise UserError(
                    f"spec.pictures: {picture.path} has no room for a {word} as large as the {name} and beside it; take a wider "
                    "picture, or a narrower cut-out"
                )
            yield case


def shown_in(picture: BasePicture, diffusion: LatentDiffusion) -> tuple[np.ndarray, list[ShownObject]]:
    """Return a picture near the model's training size, and its objects in the order of its regions.

    Raises:
        UserError: a file cannot be read, or a region has another size or is all black.
    """
    whole = read_image(picture.path)
    image = fitted(whole, diffusion.side, diffusion.multiple)
    size = image.shape[1::-1]
    regions = {name: read_truth(path, whole.shape[:2]) for name, path in picture.regions.items()}
    resized = {
        name: cv2.resize(it.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0 for name, it in regions.items()
    }
    if lost := [name for name, region in resized.items() if not region.any()]:
        where = f"at the model's {size[0]} x {size[1]} pixels"
        raise UserError(f"{picture.regions[lost[0]]}: the {lost[0]} is too small {where}; crop the picture")
    return image, [ShownObject(name, region) for name, region in resized.items()]


def check_files(config: CopyPaste) -> None:
    """Check that all named files exist, before any model is loaded.

    Raises:
        UserError: one is missing.
    """
    named = [(f"cutouts.{word}", path) for word, path in config.cutouts.items()]
    for picture in config.pictures:
        named += [
            ("pictures", picture.path),
            *((f"pictures.regions.{name}", path) for name, path in picture.regions.items()),
        ]
    if missing := [f"spec.{key}: {path}: there is no such file" for key, path in named if not path.is_file()]:
        raise UserError("\n".join(missing))


def words_for(config: CopyPaste, classes: tuple[str, ...]) -> Mapping[str, Sequence[str]]:
    """Return, by class, the look-alikes that may be pasted beside it."""
    if classes == CLASSES:
        return LOOK_ALIKES
    check_names("spec.pairs", [*config.pairs, *config.pairs.values()], classes)
    return {name: [word for word, other in config.pairs.items() if other == name] for name in config.pairs.values()}


def cut_out(donors: Sequence[tuple[np.ndarray, list[ShownObject]]], word: str, other: ShownObject) -> np.ndarray | None:
    """Return an object of class `word`, complete and half to twice as large as `other`, as RGBA (h, w, 4); None if missing."""
    for image, things in donors:
        for thing in things:
            if thing.name == word and whole(thing) and 0.5 <= thing.region.sum() / other.region.sum() <= 2:
                rows, columns = np.nonzero(thing.region)
                box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
                return np.dstack([image[box], 255 * thing.region[box].astype(np.uint8)])
    return None


def whole(thing: ShownObject) -> bool:
    """Return whether an object is one connected region that touches no edge of its image."""
    at_edge = thing.region[[0, -1]].any() or thing.region[:, [0, -1]].any()
    return not at_edge and cv2.connectedComponents(thing.region.astype(np.uint8))[0] == 2


def read_cutout(path: Path) -> np.ndarray:
    """Read a cut-out as uint8 (h, w, 4).

    Raises:
        UserError: the file cannot be read, or has no transparent background.
    """
    found = read_rgba(path)
    if found[..., 3].min() > 127 or found[..., 3].max() <= 127:
        raise UserError(f"{path}: a cut-out is opaque where the thing is and transparent around it; this one is not")
    return found


def scaled(cut: np.ndarray, other: ShownObject) -> np.ndarray:
    """Resize a cut-out to the area of another object; what is transparent adds no colour to the edge."""
    ratio = np.sqrt(other.region.sum() / (cut[..., 3] > 127).sum())
    sides = [max(1, round(side * ratio)) for side in cut.shape[:2]]
    return np.asarray(Image.fromarray(cut).resize(sides[::-1], Image.Resampling.BOX))


def paste(
    image: np.ndarray, cut: np.ndarray, things: Sequence[ShownObject], other: ShownObject
) -> tuple[np.ndarray, np.ndarray] | None:
    """Paste a cut-out on the look-alike's ground line where it covers least; return the image and the pasted pixels.

    Returns None if it does not fit, is too thin to have an opaque pixel, or would cover more than a tenth of the look-alike.
    """
    height, width = cut.shape[:2]
    bottom = int(np.nonzero(other.region.any(axis=1))[0].max()) + 1
    top = bottom - height
    opaque = cut[..., 3] > 127
    if top < 0 or width > image.shape[1] or not opaque.any():
        return None
    taken = np.any([thing.region for thing in things], axis=0)

    def covered(left: int) -> tuple[int, int]:
        box = slice(top, bottom), slice(left, left + width)
        return int((other.region[box] & opaque).sum()), int((taken[box] & opaque).sum())

    left = min(range(image.shape[1] - width + 1), key=covered)
    if covered(left)[0] > COVERED * other.region.sum():
        return None
    region = np.zeros(image.shape[:2], bool)
    region[top:bottom, left : left + width] = opaque
    after = image.copy()
    after[region] = cut[opaque][:, :3]
    return after, region


def draw(cases: Sequence[tuple[Case, tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """Draw the images before and after, each with the map of the pasted object's word."""
    height = 0.4 + (1.8 * tallest([case.before for case, _ in cases]) + 0.05) * len(cases)
    figure = Figure(figsize=(7.2, height), layout="constrained", dpi=150)
    top = highest(scores for _, maps in cases for scores in maps)
    for row, (case, maps) in zip(figure.subplots(len(cases), 4, squeeze=False), cases, strict=True):
        for axes, image, scores in zip((row[:2], row[2:]), (case.before, case.after), maps, strict=True):
            axes[0].imshow(image, interpolation="nearest")
            overlay(axes[1], image, scores, top, f"“{case.word}”")
        row[0].set_title(with_article(case.other), fontsize=9)
        row[2].set_title(f"{with_article(case.word)} pasted", fontsize=9)
        for axes in row:
            axes.set_axis_off()
    show_scale(figure, figure.axes, top)
    return figure
