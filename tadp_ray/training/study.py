"""What a cell is made from before any training: data, prompts, frozen diffusion model; all of it checked.

Frozen things are kept for the life of the process, so that the cells of a sweep share them.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from torch import Tensor

from tadp_ray.captions.prompts import Prompts, make_prompts
from tadp_ray.config.schema import CaptionConfig, Recipe
from tadp_ray.data import open_dataset
from tadp_ray.data.sample import Dataset
from tadp_ray.data.transforms import resize_shorter, smallest_view
from tadp_ray.models.conditioning import ContextCache, count_tokens
from tadp_ray.models.diffusion import Diffusion, load_diffusion
from tadp_ray.tasks import TASKS, Task


@lru_cache(maxsize=2)
def frozen_diffusion(weights: str, forgets: int | None) -> tuple[Diffusion, ContextCache]:
    """The frozen Stable Diffusion and the contexts it has encoded so far, once per process.

    With a seed to forget by, U-Net and text encoder have random weights (`model.unet_init: random`).
    """
    diffusion = load_diffusion(weights)
    if forgets is not None:
        diffusion = diffusion.forgetful(forgets)
    return diffusion, ContextCache(diffusion.tokenizer, diffusion.text_encoder)


@dataclass(frozen=True)
class Study:
    """A cell's recipe with its data, prompts and frozen model at hand."""

    recipe: Recipe
    seed: int

    @property
    def task(self) -> Task:
        """Head, loss, metrics and prediction of the recipe's task."""
        return TASKS[self.recipe.task]

    @property
    def train(self) -> Dataset:
        """Training split."""
        return open_dataset(self.recipe.data, "train")

    @property
    def val(self) -> Dataset:
        """Validation split."""
        return open_dataset(self.recipe.data, "val")

    @property
    def diffusion(self) -> Diffusion:
        """VAE, U-Net, text encoder and tokenizer, frozen."""
        return self._frozen[0]

    @property
    def _frozen(self) -> tuple[Diffusion, ContextCache]:
        model = self.recipe.model
        return frozen_diffusion(model.weights, self.seed if model.unet_init == "random" else None)

    @property
    def multiple(self) -> int:
        """Image sides must be multiples of this many pixels: the VAE's factor times the U-Net's halvings."""
        return self.diffusion.factor * 2 ** (len(self.diffusion.unet.config.block_out_channels) - 1)

    @cached_property
    def train_prompts(self) -> Prompts:
        """The prompt of each training image."""
        return prompts_of(self.recipe.caption, self.train, self.seed, self.recipe.model.weights)

    @cached_property
    def val_prompts(self) -> Prompts:
        """The prompt of each validation image."""
        return prompts_of(self.recipe.caption, self.val, self.seed, self.recipe.model.weights)

    def shifted(self) -> dict[str, "Study"]:
        """The study in each other style in which the model is scored besides, by the style's name."""
        data = self.recipe.data
        looks = {style: data.model_copy(update={"style": style}) for style in getattr(data, "also", ())}
        return {style: Study(self.recipe.model_copy(update={"data": look}), self.seed) for style, look in looks.items()}

    def contexts(self, prompts: list[str]) -> Tensor:
        """Contexts (B, L, D) of prompts, each distinct prompt encoded once per process."""
        return self._frozen[1](prompts)

    def resized(self, image: np.ndarray) -> np.ndarray:
        """An evaluation image (H, W, 3) at the size that the model sees."""
        for step in resize_shorter(self.recipe.augment.resize):
            image = step(image=image)["image"]
        return image

    def evaluated_size(self, index: int) -> tuple[int, int]:
        """(height, width) of a validation image at the size that the model sees."""
        height, width = self.val.sizes[index]
        side = self.recipe.augment.resize
        if side is None:
            return height, width
        blank = self.resized(np.zeros((height, width, 1), np.uint8))
        return blank.shape[0], blank.shape[1]

    def check(self) -> None:
        """Refuse what training would stumble over later.

        Raises:
            ValueError: data, captions or sizes that do not fit; the message names them and the mend.
        """
        _, _ = self.train_prompts, self.val_prompts
        augment, evaluation = self.recipe.augment, self.recipe.evaluation
        sides = [("augment.crop", augment.crop)] + [("evaluation.crop", evaluation.crop)] * (evaluation.mode == "slide")
        for key, side in sides:
            if side and side % self.multiple:
                raise ValueError(
                    f"{key}={side}: must be a multiple of {self.multiple}, the factor by which {self.recipe.model.weights} "
                    f"halves an image; try {side // self.multiple * self.multiple}"
                )
        if augment.crop and not augment.pad:
            index = int(np.argmin([min(size) for size in self.train.sizes]))
            smallest = smallest_view(self.train.sizes[index], augment)
            if smallest < augment.crop:
                raise ValueError(
                    f"augment.crop={augment.crop}: image {self.train.ids[index]} {self.train.sizes[index]} can be as small "
                    f"as {smallest} pixels after resize and scale; make the crop smaller, resize larger, or set augment.pad: true"
                )


@lru_cache(maxsize=16)
def prompts_of(caption: CaptionConfig, dataset: Dataset, seed: int, weights: str) -> Prompts:
    """The prompts of a data set as the recipe asks for them; made once per process."""
    present = {image_id: dataset.present(index) for index, image_id in enumerate(dataset.ids)}
    diffusion = frozen_diffusion(weights, None)[0]
    budget = diffusion.tokens - 2  # without the start and end marks
    counts: dict[str, int] = {}

    def tokens(text: str) -> int:
        if text not in counts:
            counts[text] = count_tokens(diffusion.tokenizer, text)
        return counts[text]

    return make_prompts(caption, present, dataset.classes, seed, tokens, budget)
