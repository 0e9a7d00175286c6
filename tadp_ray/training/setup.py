"""The inputs of a cell's training: data, prompts and the frozen networks of the backbone."""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from tadp_ray.backbones.base import Backbone, Family, Pretrained
from tadp_ray.backbones.families import family_of
from tadp_ray.captions.describe import plain_sentence
from tadp_ray.captions.making import import_words
from tadp_ray.captions.prompts import Prompts, as_text, make_prompts
from tadp_ray.captions.sources import Prompt
from tadp_ray.conditioning.base import ImageEncoder
from tadp_ray.conditioning.sources import context_length, source_of
from tadp_ray.conditioning.text_encoder import Encoder, count_tokens, make_text_encoder
from tadp_ray.config.data import CaptionConfig
from tadp_ray.config.fingerprint import sha256_of
from tadp_ray.config.model import ModelConfig
from tadp_ray.config.recipe import MULTI_SCALE, Recipe
from tadp_ray.data.datasets import Datasets, class_names
from tadp_ray.data.pixels import stretching, to_tensor
from tadp_ray.data.sample import Dataset
from tadp_ray.errors import UserError, said_as
from tadp_ray.layout import CONTEXTS
from tadp_ray.registry import check_interface
from tadp_ray.tasks.base import Size, Task
from tadp_ray.tasks.build import build_head, task_of
from tadp_ray.training.context_cache import ContextCache
from tadp_ray.training.provenance import code_of, provenance
from tadp_ray.wording import first_few

Origin = tuple[Family, Hashable]
"""(family of the backbone, key of the networks that it loads)."""


class Cache:
    """A cache of data sets, frozen networks, contexts and prompts, shared by cells and filled on first use.

    Args:
        datasets: cache of opened data sets; None: a new one.
    """

    def __init__(self, datasets: Datasets | None = None) -> None:
        self.datasets = datasets or Datasets()
        self.pretrained = lru_cache(maxsize=2)(load_pretrained)
        self.encoder = lru_cache(maxsize=2)(load_encoder)
        self.token_counter = lru_cache(maxsize=2)(lambda origin: token_counter(self.pretrained(origin)))
        self.contexts = lru_cache(maxsize=8)(self._contexts)
        self.text_encoder = lru_cache(maxsize=2)(self._text_encoder)
        self.present = lru_cache(maxsize=16)(present_in)
        self.prompts = lru_cache(maxsize=16)(self._prompts)
        self.checked_head = lru_cache(maxsize=64)(self._checked_head)
        self.levels = lru_cache(maxsize=64)(self._levels)

    def _contexts(self, origin: Origin, caption: CaptionConfig, classes: tuple[str, ...]) -> ContextCache:
        """Return an empty cache of contexts for one way to encode prompts."""
        # Looked up for each call, so that no text encoder of an earlier cell is held, which may be on the GPU.
        return ContextCache(lambda prompts: self.text_encoder(origin, caption, classes)(prompts))

    def _text_encoder(self, origin: Origin, caption: CaptionConfig, classes: tuple[str, ...]) -> Encoder:
        """Return the function that encodes a prompt as a context; an empty one, if the backbone reads no text."""
        pretrained = self.pretrained(origin)
        if pretrained.text_encoder is None:
            return no_contexts
        return make_text_encoder(pretrained.tokenizer, pretrained.text_encoder, caption, classes)

    def _prompts(self, caption: CaptionConfig, dataset: Dataset, seed: int, origin: Origin) -> Prompts:
        """Return the prompts of a data set for the recipe's caption settings."""
        count, budget = self.token_counter(origin)
        say = caption_fn(caption, dataset, seed)
        return make_prompts(caption, self.present(dataset), dataset.classes, seed, count, budget, say)

    def _checked_head(self, origin: Origin, model: ModelConfig, tokens: int, view: Size, classes: int) -> None:
        """Build a head for the backbone's levels and discard it, without a change of random state."""
        channels, strides = self.levels(origin, model, tokens, view)
        with torch.random.fork_rng(devices=[]):
            build_head(channels, strides, classes, model.head)

    def _levels(self, origin: Origin, model: ModelConfig, tokens: int, view: Size) -> tuple[tuple[int, ...], ...]:
        """Return channels and strides of a backbone's levels under contexts of a length, without a change of random state."""
        with torch.random.fork_rng(devices=[]):
            backbone = family_of(model).make_backbone(self.pretrained(origin).to_meta(), model, tokens, view)
            check_interface(backbone, Backbone, f"backbone {model.backbone!r}: make_backbone")
            return backbone.channels, backbone.strides


@dataclass(frozen=True)
class TrainSetup:
    """A cell's recipe with its data, prompts and frozen networks."""

    recipe: Recipe
    seed: int
    cache: Cache = field(default_factory=Cache, kw_only=True)
    """Shared with other cells; a new one by default."""

    @cached_property
    def task(self) -> Task:
        """Target, loss, prediction and metrics of the recipe's task."""
        return task_of(self.recipe)

    @property
    def train(self) -> Dataset:
        """Training split."""
        return self.cache.datasets.open(self.recipe.data, "train")

    @property
    def val(self) -> Dataset:
        """Validation split."""
        return self.cache.datasets.open(self.recipe.data, "val")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in index order, without opening the data."""
        return class_names(self.recipe.data)

    @property
    def pretrained(self) -> Pretrained:
        """The frozen networks of the backbone."""
        return self.cache.pretrained(self.origin)

    @property
    def origin(self) -> Origin:
        """Key of the networks that the backbone loads."""
        model = self.recipe.model
        return family_of(model), family_of(model).origin(model, self.seed)

    @property
    def encoders(self) -> tuple[ImageEncoder, ...]:
        """The frozen image encoder of each source of the context that reads images."""
        return tuple(self.cache.encoder(source) for source in self.recipe.model.context.readers_of_images)

    @property
    def seeded(self) -> bool:
        """Whether the loaded weights depend on the seed, as random weights do."""
        model = self.recipe.model
        return family_of(model).origin(model, self.seed + 1) != self.origin[1]

    @property
    def multiple(self) -> int:
        """Number of pixels of which image sides must be a multiple."""
        return self.pretrained.multiple

    @cached_property
    def train_prompts(self) -> Prompts:
        """The prompt of each training image, without modifiers if they apply to evaluation only."""
        caption = self.recipe.caption
        if caption.modifiers_apply == "eval":
            caption = caption.model_copy(update={"modifiers": ()})
        return self._prompts(caption, self.train)

    @cached_property
    def val_prompts(self) -> Prompts:
        """The prompt of each validation image."""
        caption = self.recipe.caption
        if caption.target_store:
            caption = caption.model_copy(update={"store": caption.target_store})
        return self._prompts(caption, self.val)

    def _prompts(self, caption: CaptionConfig, dataset: Dataset) -> Prompts:
        with said_as(import_words(self.recipe)):
            return self.cache.prompts(caption, dataset, self.seed, self.origin)

    def extra_evaluations(self) -> dict[str, "TrainSetup"]:
        """Return the setups of further evaluations by name: other styles of the same scenes, several image sizes."""
        data, evaluation = self.recipe.data, self.recipe.evaluation
        changes = {
            style: {"data": data.model_copy(update={"style": style, "target_domain": None})}
            for style in getattr(data, "extra_styles", ())
        }
        if evaluation.multi_scale:
            sizes = {"scales": evaluation.multi_scale, "flip": True, "multi_scale": ()}
            changes[MULTI_SCALE] = {"evaluation": evaluation.model_copy(update=sizes)}
        return {name: self._changed(change) for name, change in changes.items()}

    @cached_property
    def other_captions(self) -> dict[str, "TrainSetup"]:
        """The setups of further evaluations of the same images with other captions, by name; their training is not used."""
        alone = self.recipe.evaluation.model_copy(update={"captions": {}})
        captions = self.recipe.evaluation.captions
        return {name: self._changed({"caption": caption, "evaluation": alone}) for name, caption in captions.items()}

    def _changed(self, change: Mapping[str, Any]) -> "TrainSetup":
        """Return the setup of the recipe with other groups."""
        return replace(self, recipe=self.recipe.model_copy(update=change))

    @cached_property
    def encoding(self) -> CaptionConfig:
        """The caption settings that contexts depend on."""
        kept = self.recipe.caption.model_dump(include={"encoding", "embeddings", "templates"})
        # Not validated: an encoding may refuse this source, on which contexts do not depend.
        return CaptionConfig.model_construct(source="class_names", **kept)

    @cached_property
    def contexts(self) -> ContextCache:
        """Contexts of captions by prompt, shared by the cells of the cache; empty if no source of the context reads text."""
        if not self.recipe.model.context.reads_text:
            return ContextCache(no_contexts)
        return self.cache.contexts(self.origin, self.encoding, self.classes)

    def warm_contexts(self, digests: Mapping[str, str], device: torch.device) -> None:
        """Encode every prompt that no cell has encoded before, and read all contexts from disk from now on."""
        if not self.recipe.model.context.reads_text:
            return
        self._warm(digests, device, self.train_prompts, self.val_prompts)
        for name, other in self.other_captions.items():
            embeddings = digests.get(f"embeddings/{name}")
            other._warm({**digests, "embeddings": embeddings}, device, other.val_prompts)

    def _warm(self, digests: Mapping[str, str | None], device: torch.device, *prompts: Prompts) -> None:
        """Encode prompts that no cell has encoded before."""
        key = sha256_of(
            [
                [
                    digests["weights"],
                    digests.get("token"),
                    digests.get("embeddings"),
                    self.seed if self.seeded else None,
                ],
                self.recipe.model.encoding_of_texts,
                self.encoding.model_dump(mode="json", exclude={"embeddings"}),
                # An encoding may depend on the classes, as that from a file of embeddings does.
                self.train.classes,
                *encoder_key(self.recipe, device),
            ]
        )
        folder = self.recipe.compute.folder / CONTEXTS / key[:16]
        self.contexts.warm(folder, key, (prompt for made in prompts for prompt in made.by_id.values()))

    @cached_property
    def tokens(self) -> int:
        """Length of every context, of all its sources.

        Raises:
            UserError: see `context_length`.
        """
        return context_length(self.recipe.model.context, self.prompt_tokens)

    @cached_property
    def prompt_tokens(self) -> int:
        """Length of every context of a caption; 0 if no source of the context reads text."""
        return self._prompt_length(lambda: self.train_prompts)

    @cached_property
    def val_prompt_tokens(self) -> int:
        """The same of the captions of the validation images."""
        return self._prompt_length(lambda: self.val_prompts)

    def _prompt_length(self, prompts: Callable[[], Prompts]) -> int:
        """Return the length of the contexts of prompts, which are made, and their data set opened, only if it depends on them."""
        if not self.recipe.model.context.reads_text:
            return 0
        if self.recipe.caption.encoding == "text":
            return self.pretrained.tokens
        # A plug-in's encoding whose contexts differ in length mostly differs in these two.
        made = prompts().by_id.values()
        extremes = (pick(made, key=lambda prompt: len(as_text(prompt))) for pick in (min, max))
        return self.contexts(list(extremes)).shape[1]

    @cached_property
    def view(self) -> tuple[int, int]:
        """(height, width) of a training view in pixels; if views differ, the size of the first training image."""
        augment = self.recipe.augment
        return (augment.side,) * 2 if augment.side else resized(self.train.sizes[0], augment.resize)

    def evaluated_size(self, index: int, factor: float = 1.0) -> tuple[int, int]:
        """Return the (height, width) of a validation image as the model's input, times a size factor."""
        height, width = self.val.sizes[index]
        if side := stretched_side(self.recipe):
            height = width = side
        else:
            height, width = resized((height, width), self.recipe.evaluation.resize or self.recipe.augment.resize)
        return round(height * factor), round(width * factor)

    def scored_size(self, index: int) -> tuple[int, int]:
        """Return the (height, width) at which a validation image is scored."""
        return self.val.sizes[index] if self.recipe.evaluation.score_at == "image" else self.evaluated_size(index)

    def evaluated(self, image: np.ndarray, index: int, factor: float) -> Tensor:
        """Return a validation image (3, H, W) at its evaluated size, with normalized pixels."""
        size = self.evaluated_size(index, factor)
        if image.shape[:2] != size:
            # As the views of the training, if they are stretched, too.
            kind = stretching(self.task.truth) if stretched_side(self.recipe) else cv2.INTER_LINEAR
            image = cv2.resize(image, size[::-1], interpolation=kind)
        return to_tensor(image, self.recipe.model.pixel_normalization)

    def channels_under(self, tokens: int) -> tuple[int, ...]:
        """Return the channels of the backbone's levels under contexts of captions of a length."""
        length = context_length(self.recipe.model.context, tokens)
        return self.cache.levels(self.origin, self.recipe.model, length, self.view)[0]

    def evaluated_side(self, factors: Collection[float]) -> int:
        """Return the longest side of an evaluation view before it is padded, under size factors; of a sliding window, its own."""
        evaluation = self.recipe.evaluation
        if evaluation.mode == "slide":
            return evaluation.crop
        return max(max(self.evaluated_size(index, max(factors))) for index in range(len(self.val)))

    def unfit_sizes(self) -> set[tuple[int, int]]:
        """Return the sizes (height, width) of evaluation views that differ from the only size that the model accepts.

        Empty if the model accepts all sizes.
        """
        evaluation = self.recipe.evaluation
        if not self.recipe.model.why_one_size:
            return set()
        factors = {*evaluation.scales, *evaluation.multi_scale}
        sizes = {self.evaluated_size(i, factor) for i in range(len(self.val)) for factor in factors}
        if evaluation.mode == "slide":
            # Windows are no larger than the image.
            sizes = {(min(evaluation.crop, height), min(evaluation.crop, width)) for height, width in sizes}
        return {padded(size, self.multiple) for size in sizes} - {self.view}


def stretched_side(recipe: Recipe) -> int | None:
    """Return the side of the square that evaluation images are stretched to, as in training; None if they are not."""
    return recipe.augment.stretch if recipe.evaluation.resize is None else None


def resized(size: tuple[int, int], shorter: int | None) -> tuple[int, int]:
    """Return the size (H, W) of an image whose shorter side is given a length; None: as it is."""
    ratio = shorter / min(size) if shorter else 1
    return round(size[0] * ratio), round(size[1] * ratio)


def padded(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Return a size (H, W) with both sides padded to multiples of a number."""
    height, width = size
    return height + -height % multiple, width + -width % multiple


def no_contexts(prompts: Sequence[Prompt]) -> list[Tensor]:
    """Return empty contexts (0, 0), of backbones and sources that read no text."""
    return [torch.zeros(0, 0) for _ in prompts]


def load_pretrained(origin: Origin) -> Pretrained:
    """Load the frozen networks of a backbone."""
    family, parts = origin
    loaded = family.load(parts)
    check_interface(loaded, Pretrained, f"backbone {getattr(family, '__name__', family)}: load")
    return loaded


def load_encoder(source: Any) -> ImageEncoder:
    """Load the frozen image encoder of a context source that reads images."""
    encoder: Any = source_of(source).load(source)
    check_interface(encoder, ImageEncoder, f"context source {source.kind!r}, which reads images: load")
    return encoder


def present_in(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes in each image, by image id.

    Raises:
        UserError: an image has a name that is none of the classes.
    """
    present = {image_id: dataset.present(index) for index, image_id in enumerate(dataset.ids)}
    classes = {*dataset.classes}
    for image_id, names in present.items():
        if unknown := [name for name in names if name not in classes]:
            raise UserError(
                f"data set: {unknown[0]!r} in {image_id!r} is none of its classes {first_few(map(repr, dataset.classes))}; "
                "present must return names of classes"
            )
    return present


def token_counter(pretrained: Pretrained) -> tuple[Callable[[str], int], int]:
    """Return a function that counts the tokens of a text, and the maximum number of tokens of a caption.

    Without a text encoder, every text has 0 tokens.
    """
    if pretrained.tokenizer is None:
        return lambda _: 0, 1
    count = lru_cache(maxsize=None)(partial(count_tokens, pretrained.tokenizer))
    return count, pretrained.tokenizer.max_len_single_sentence


def encoder_key(recipe: Recipe, device: torch.device) -> list[Any]:
    """Return what the keys of all caches of frozen encoders have in common: the backbone's kind, code, torch and device.

    Other code, here or in packages, may encode otherwise. The number of CPU threads changes the last digits.
    """
    threads = [recipe.compute.cpus] if device.type == "cpu" and recipe.compute.cpus > 1 else []
    return [recipe.model.backbone, code_of(provenance()), torch.__version__, device.type, *threads]


def caption_fn(caption: CaptionConfig, dataset: Dataset, seed: int) -> Callable[[str, Sequence[str]], str]:
    """Return the function (image id, names) -> sentence of a template captioner; only scenes have their own sentences."""
    say = getattr(dataset, "say", None)
    if say is None:
        return plain_sentence
    places = {image_id: index for index, image_id in enumerate(dataset.ids)}
    return lambda image_id, names: say(places[image_id], names, caption.wording, seed)
