"""A trained model on any image, told any prompt: the image stands as the validation split of the model's setup."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from tadp_ray.captions.precision_recall import Score
from tadp_ray.captions.prompts import Prompts
from tadp_ray.captions.sources import Prompt
from tadp_ray.conditioning.tokenizer import check_length
from tadp_ray.config.schema import Recipe
from tadp_ray.data.sample import Dataset, Sample
from tadp_ray.errors import UserError
from tadp_ray.training.evaluate import encode_views, predictions
from tadp_ray.training.model import TADP
from tadp_ray.training.run import encoder
from tadp_ray.training.setup import TrainSetup

UNTOLD = Score(None, None, None, None)
"""How well a prompt fits an image of which no names are known."""


@dataclass(frozen=True)
class OneImage:
    """A data set of one image without ground truth."""

    image: Sample
    classes: tuple[str, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Its id."""
        return (self.image.id,)

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Its (height, width)."""
        height, width = self.image.image.shape[:2]
        return ((height, width),)

    def __len__(self) -> int:
        """Return one."""
        return 1

    def __getitem__(self, index: int) -> Sample:
        """Return the image."""
        return (self.image,)[index]


@dataclass(frozen=True, eq=False)
class AnyImage(TrainSetup):
    """A setup that is asked about one image from outside, in that image's own pixels."""

    image: Sample
    prompt: Prompt

    @property
    def val(self) -> Dataset:
        """The image."""
        return OneImage(self.image, self.classes)

    @cached_property
    def val_prompts(self) -> Prompts:
        """Its prompt."""
        return Prompts({self.image.id: self.prompt}, 0, UNTOLD, {})

    def scored_size(self, index: int) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.val.sizes[index]


def predict_image(model: TADP, setup: TrainSetup, image: Sample, prompt: Prompt, device: torch.device) -> Any:
    """What a trained model predicts for one image: labels int64 or metres float32 (H, W), or a set of boxes.

    The image is resized, cut into windows, mirrored and encoded as the recipe's evaluation does it. Where the posterior of
    the VAE is sampled, the noise depends on the image's id alone.

    Args:
        model: in evaluation mode.
        setup: the model's own.
        image: its id and its pixels.
        prompt: as of `given_prompt`.
        device: of the model.

    Raises:
        UserError: the image's size does not fit the model.
    """
    asked = AnyImage(setup.recipe, setup.seed, image, prompt, cache=setup.cache)
    if unfit := asked.unfit_sizes():
        raise UserError(
            f"image of {image.image.shape[1]} x {image.image.shape[0]} pixels: {setup.recipe.model.why_one_size}, which "
            f"binds this model to views of {setup.view} (height, width), and it would see {min(unfit)}; cut or resize the image"
        )
    latents = encode_views(asked, encoder(model, device), [0])
    ((_, found),) = predictions(model, asked, latents, [0], device)
    return found[0]


def given_prompt(setup: TrainSetup, prompt: str | Sequence[str], truncate: bool = False) -> Prompt:
    """A prompt as the setup's text encoder is given it.

    Raises:
        UserError: it is too long, or its names are not those that the recipe's encoding knows.
    """
    recipe = setup.recipe
    if recipe.caption.encoding != "text":
        names = split_names(prompt) if isinstance(prompt, str) else tuple(prompt)
        check_names(setup, recipe, names)
        return names
    if not isinstance(prompt, str):
        raise UserError(f"prompt {prompt!r}: this model's prompts are texts (caption.encoding=text); give one text")
    if not truncate:
        check_length(setup.pretrained.tokenizer, prompt, setup.pretrained.tokens - 2)
    return prompt


def split_names(prompt: str) -> tuple[str, ...]:
    """Names apart by commas."""
    return tuple(name.strip() for name in prompt.split(","))


def check_names(setup: TrainSetup, recipe: Recipe, names: tuple[str, ...]) -> None:
    """Refuse names whose context would not be as long as those that the model was trained with.

    Raises:
        UserError: a name is empty or unknown to the file of embeddings, or they are too many or too few.
    """
    encoding = recipe.caption.encoding
    if not names or not all(names):
        raise UserError(f"prompt: an empty name in {list(names)!r}; take it out (caption.encoding={encoding})")
    unknown = [name for name in names if recipe.caption.embeddings and name not in setup.classes]
    if unknown:
        raise UserError(
            f"prompt: {unknown[0]!r} is no class of caption.embeddings={str(recipe.caption.embeddings)!r}; its names are "
            f"{', '.join(setup.classes)}"
        )
    if (length := setup.contexts([names]).shape[1]) != setup.tokens:
        raise UserError(
            f"prompt: {len(names)} names make a context of {length} vectors, and this model was trained with {setup.tokens} "
            f"(caption.encoding={encoding}); give as many names as its own prompts have, apart by commas"
        )
