"""What a cell is made from before any training: data, prompts, frozen diffusion model; all of it checked.

Frozen things are kept for the life of the process, so that the cells of a sweep share them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
import transformers
from torch import Tensor

from tadp_ray.backbones.stable_diffusion.load import Diffusion, frozen, load_diffusion
from tadp_ray.captions.describe import plain_sentence
from tadp_ray.captions.prompts import Prompts, as_text, make_prompts
from tadp_ray.conditioning.learned_tokens import add_token, read_learned
from tadp_ray.conditioning.text_encoder import count_tokens, make_text_encoder
from tadp_ray.config.data import CaptionConfig
from tadp_ray.config.fingerprint import sha256_of
from tadp_ray.config.schema import Recipe
from tadp_ray.config.vocabulary import CAPTION
from tadp_ray.data.datasets import class_names, open_dataset
from tadp_ray.data.sample import Dataset
from tadp_ray.data.transforms import smallest_view, to_tensor
from tadp_ray.errors import UserError
from tadp_ray.layout import CONTEXTS
from tadp_ray.tasks.base import Task
from tadp_ray.tasks.registry import task_of
from tadp_ray.training.context_cache import ContextCache


def open_diffusion(weights: str, embeddings: Path | None = None, forgets: int | None = None) -> Diffusion:
    """A frozen Stable Diffusion of its own.

    With a file of embeddings it knows a learned token. With a seed to forget by, U-Net and text encoder have random weights
    (`model.unet_init: random`).
    """
    diffusion = load_diffusion(weights)
    diffusion = diffusion if forgets is None else diffusion.reinitialized(forgets)
    if embeddings is not None:
        learned = read_learned(embeddings)
        add_token(diffusion.tokenizer, diffusion.text_encoder, learned, f"model.embeddings={str(embeddings)!r}")
        frozen(diffusion.text_encoder)
    return diffusion


@lru_cache(maxsize=2)
def frozen_diffusion(weights: str, embeddings: Path | None, forgets: int | None) -> Diffusion:
    """The frozen Stable Diffusion of `open_diffusion`, once per process."""
    return open_diffusion(weights, embeddings, forgets)


@lru_cache(maxsize=8)
def contexts_of(
    weights: str, embeddings: Path | None, forgets: int | None, caption: CaptionConfig, classes: tuple[str, ...]
) -> ContextCache:
    """The contexts that have been encoded so far, by prompt, once per process."""
    diffusion = frozen_diffusion(weights, embeddings, forgets)
    return ContextCache(make_text_encoder(diffusion.tokenizer, diffusion.text_encoder, caption, classes))


@dataclass(frozen=True)
class TrainSetup:
    """A cell's recipe with its data, prompts and frozen model at hand."""

    recipe: Recipe
    seed: int

    @cached_property
    def task(self) -> Task:
        """Target, loss, prediction and metrics of the recipe's task."""
        return task_of(self.recipe)

    @property
    def train(self) -> Dataset:
        """Training split."""
        return open_dataset(self.recipe.data, "train")

    @property
    def val(self) -> Dataset:
        """Validation split."""
        return open_dataset(self.recipe.data, "val")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in index order, known without the data."""
        return class_names(self.recipe.data)

    @property
    def diffusion(self) -> Diffusion:
        """VAE, U-Net, text encoder and tokenizer, frozen."""
        return frozen_diffusion(*self._origin)

    @property
    def _origin(self) -> tuple[str, Path | None, int | None]:
        model = self.recipe.model
        return model.weights, model.embeddings, self.seed if model.unet_init == "random" else None

    @property
    def multiple(self) -> int:
        """Image sides must be multiples of this many pixels."""
        return self.diffusion.multiple

    @cached_property
    def train_prompts(self) -> Prompts:
        """The prompt of each training image, without modifiers where they are for evaluation alone."""
        caption = self.recipe.caption
        if caption.modifiers_apply == "eval":
            caption = caption.model_copy(update={"modifiers": ()})
        return prompts_of(caption, self.train, self.seed, *self._origin[:2])

    @cached_property
    def val_prompts(self) -> Prompts:
        """The prompt of each validation image."""
        caption = self.recipe.caption
        if caption.target_store:
            caption = caption.model_copy(update={"store": caption.target_store})
        return prompts_of(caption, self.val, self.seed, *self._origin[:2])

    def extra_evaluations(self) -> dict[str, "TrainSetup"]:
        """What else the trained model is scored on, by name: other styles of the same scenes, several sizes of an image."""
        data, evaluation = self.recipe.data, self.recipe.evaluation
        changes = {
            style: {"data": data.model_copy(update={"style": style, "target_domain": None})}
            for style in getattr(data, "extra_styles", ())
        }
        if evaluation.multi_scale:
            sizes = {"scales": evaluation.multi_scale, "flip": True, "multi_scale": ()}
            changes["multi_scale"] = {"evaluation": evaluation.model_copy(update=sizes)}
        return {name: TrainSetup(self.recipe.model_copy(update=change), self.seed) for name, change in changes.items()}

    @cached_property
    def encoding(self) -> CaptionConfig:
        """How prompts are encoded; whatever else a caption says does not enter their contexts."""
        kept = self.recipe.caption.model_dump(include={"encoding", "embeddings", "templates"})
        return CaptionConfig(source="class_names", **kept)

    @cached_property
    def contexts(self) -> ContextCache:
        """Contexts by prompt, shared by the studies of this process."""
        return contexts_of(*self._origin, self.encoding, self.classes)

    def warm_contexts(self, digests: Mapping[str, str], device: torch.device) -> None:
        """Encode every prompt that no cell has encoded before, and have the contexts of all read from disk."""
        key = sha256_of(
            [
                [digests["weights"], digests.get("token"), digests.get("embeddings"), self._origin[2]],
                self.encoding.model_dump(mode="json", exclude={"embeddings"}),
                self.train.classes if self.encoding.embeddings else (),
                [device.type, torch.__version__, transformers.__version__],
                *threads_of(self.recipe, device),
            ]
        )
        folder = self.recipe.compute.folder / CONTEXTS / key[:16]
        prompts = (prompt for made in (self.train_prompts, self.val_prompts) for prompt in made.by_id.values())
        self.contexts.warm(folder, key, prompts)

    @cached_property
    def tokens(self) -> int:
        """Length of every context."""
        if self.recipe.caption.encoding == "text":
            return self.diffusion.tokens
        return self.contexts([self.train_prompts[self.train.ids[0]]]).shape[1]

    @cached_property
    def view(self) -> tuple[int, int]:
        """(height, width) in pixels of a training view, where all have the same."""
        side = self.recipe.augment.side
        return (side, side) if side else self.train.sizes[0]

    def evaluated_size(self, index: int, factor: float = 1.0) -> tuple[int, int]:
        """(height, width) of a validation image at the size that the model sees, times a size factor."""
        height, width = self.val.sizes[index]
        augment, side = self.recipe.augment, self.recipe.evaluation.resize
        if side is None and augment.stretch:
            height = width = augment.stretch
        elif shorter := side or augment.resize:
            ratio = shorter / min(height, width)
            height, width = round(height * ratio), round(width * ratio)
        return round(height * factor), round(width * factor)

    def scored_size(self, index: int) -> tuple[int, int]:
        """(height, width) at which a validation image is scored."""
        return self.val.sizes[index] if self.recipe.evaluation.score_at == "image" else self.evaluated_size(index)

    def evaluated(self, image: np.ndarray, index: int, factor: float) -> Tensor:
        """A validation image as the model sees it, (3, H, W)."""
        size = self.evaluated_size(index, factor)
        if image.shape[:2] != size:
            image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
        return to_tensor(image, self.recipe.model.pixel_normalization)

    def check(self) -> None:
        """Refuse what training would stumble over later.

        Raises:
            UserError: data, captions or sizes that do not fit; the message names them and the mend.
        """
        _, _ = self.train_prompts, self.val_prompts
        self._check_token()
        self._check_store()
        augment = self.recipe.augment
        key = next((key for key in ("pad_to", "stretch", "crop") if getattr(augment, key)), None)
        if key and (side := getattr(augment, key)) % self.multiple:
            raise UserError(
                f"augment.{key}={side}: must be a multiple of {self.multiple}, the factor by which "
                f"{self.recipe.model.weights} halves an image; try {side // self.multiple * self.multiple}"
            )
        self._check_lengths()
        if augment.crop and not augment.pad and not augment.stretch:
            index = int(np.argmin([min(size) for size in self.train.sizes]))
            smallest = smallest_view(self.train.sizes[index], augment)
            if smallest < augment.crop:
                raise UserError(
                    f"augment.crop={augment.crop}: image {self.train.ids[index]} {self.train.sizes[index]} can be as small "
                    f"as {smallest} pixels after resize and scale; make the crop smaller, resize larger, or set augment.pad: true"
                )

    def _check_store(self) -> None:
        """Refuse one caption store for two splits of a folder that call different images alike."""
        store, data = self.recipe.caption.store, self.recipe.data
        scored = self.recipe.caption.target_store or store
        if store is None or scored.resolve() != store.resolve() or data.kind != "folder":
            return
        for image_id in sorted({*self.train.ids} & {*self.val.ids}):
            one, other = self.train.image_file(image_id), self.val.image_file(image_id)
            if one != other:
                raise UserError(
                    f"caption.store={str(store)!r}: has one entry {image_id!r} for {one} and {other}; caption the scored images "
                    "into a store of their own, and name it as caption.target_store"
                )

    def _check_token(self) -> None:
        """Refuse a learned token that no prompt says, neither in training nor in evaluation."""
        if path := self.recipe.model.embeddings:
            token = read_learned(path).token
            if not any(
                token in as_text(prompt)
                for made in (self.train_prompts, self.val_prompts)
                for prompt in made.by_id.values()
            ):
                raise UserError(
                    f"model.embeddings={str(path)!r}: its token is {token!r}, which no prompt says; add it to caption.modifiers, "
                    f"e.g. 'a {token} style photo of {CAPTION}'"
                )

    def _check_lengths(self) -> None:
        """Refuse contexts of several lengths, and sizes that self-attention maps cannot have."""
        caption = self.recipe.caption
        if caption.encoding == "class_embeddings":
            prompts = {*self.train_prompts.by_id.values(), *self.val_prompts.by_id.values()}
            counts = sorted({len(names) for names in prompts})
            if len(counts) > 1 or not counts[0]:
                raise UserError(
                    f"caption.encoding={caption.encoding}: images have {counts[0]} to {counts[-1]} names, but contexts must "
                    "be of one length, and hold some; use caption.source: class_names"
                )
        if unfit := self.unfit_sizes():
            raise UserError(
                "model.attention_maps=cross+self: self-attention maps have a channel for every pixel, so what is evaluated must "
                f"have the size of a training view, {self.view}, not {min(unfit)}; slide "
                "windows of that size, or stretch"
            )

    def unfit_sizes(self) -> set[tuple[int, int]]:
        """Sizes (height, width) of evaluation views, if the model takes that of a training view alone and some differ."""
        evaluation = self.recipe.evaluation
        if self.recipe.model.attention_maps != "cross+self":
            return set()
        looks = [(i, factor) for i in range(len(self.val)) for factor in evaluation.scales]
        slides = evaluation.mode == "slide"
        seen = {(evaluation.crop,) * 2} if slides else {self.evaluated_size(*look) for look in looks}
        return seen - {self.view}


@lru_cache(maxsize=16)
def prompts_of(caption: CaptionConfig, dataset: Dataset, seed: int, weights: str, embeddings: Path | None) -> Prompts:
    """The prompts of a data set as the recipe asks for them; made once per process."""
    present = {image_id: dataset.present(index) for index, image_id in enumerate(dataset.ids)}
    diffusion = frozen_diffusion(weights, embeddings, None)
    budget = diffusion.tokens - 2  # without the start and end marks
    counts: dict[str, int] = {}

    def tokens(text: str) -> int:
        if text not in counts:
            counts[text] = count_tokens(diffusion.tokenizer, text)
        return counts[text]

    return make_prompts(caption, present, dataset.classes, seed, tokens, budget, caption_fn(caption, dataset, seed))


def threads_of(recipe: Recipe, device: torch.device) -> list[int]:
    """What a cache of tensors adds to its key, as threads change the last digits; nothing for one thread, and for a GPU."""
    return [recipe.compute.cpus] if device.type == "cpu" and recipe.compute.cpus > 1 else []


def forget() -> None:
    """Give back the models, prompts and contexts that this process keeps; a later setup loads them anew."""
    for kept in (frozen_diffusion, contexts_of, prompts_of):
        kept.cache_clear()


def caption_fn(caption: CaptionConfig, dataset: Dataset, seed: int) -> Callable[[str, Sequence[str]], str]:
    """The sentence in which a template captioner says names of an image; only scenes know more than names."""
    say = getattr(dataset, "say", None)
    if say is None:
        return plain_sentence
    places = {image_id: index for index, image_id in enumerate(dataset.ids)}
    return lambda image_id, names: say(places[image_id], names, caption.wording, seed)
