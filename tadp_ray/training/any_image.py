"""Predicts a single image with a trained model and any prompt. The image replaces the validation split of the setup."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from tadp_ray.captions.prompts import Prompts
from tadp_ray.captions.sources import Captions, Prompt
from tadp_ray.conditioning.tokenizer import check_length
from tadp_ray.data.sample import Dataset, Sample
from tadp_ray.errors import UserError
from tadp_ray.registry import ENCODINGS
from tadp_ray.training.embeddings import view_embeddings
from tadp_ray.training.evaluate import predictions
from tadp_ray.training.latents import view_latents
from tadp_ray.training.model import TADP
from tadp_ray.training.setup import TrainSetup
from tadp_ray.wording import names_listed


class SingleImageDataset:
    """A data set of one image without ground truth."""

    def __init__(self, image: Sample, classes: tuple[str, ...]) -> None:
        height, width = image.image.shape[:2]
        self._image, self.classes = image, classes
        self.ids: tuple[str, ...] = (image.id,)
        self.sizes: tuple[tuple[int, int], ...] = ((height, width),)

    def __len__(self) -> int:
        """Return one."""
        return 1

    def __getitem__(self, index: int) -> Sample:
        """Return the image."""
        return (self._image,)[index]

    def present(self, index: int) -> tuple[str, ...]:
        """Return no class, since none is known to be in the image."""
        return ()

    def digest(self) -> str:
        """Return the sha256 hex of the class names and the pixels."""
        return hashlib.sha256(repr((self.classes, self.sizes)).encode() + self._image.image.tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class SingleImageSetup(TrainSetup):
    """A setup whose validation split is one image, scored at the image's original size."""

    image: Sample
    prompt: Prompt

    @property
    def val(self) -> Dataset:
        """A data set of the image."""
        return SingleImageDataset(self.image, self.classes)

    @cached_property
    def val_prompts(self) -> Prompts:
        """The prompt of the image, of which nothing else is known."""
        prompts, nothing = {self.image.id: self.prompt}, {self.image.id: ()}
        return Prompts(prompts, Captions(prompts, nothing), nothing, (), lambda _: 0, 0)

    def scored_size(self, index: int) -> tuple[int, int]:
        """Return the (height, width) of the image."""
        return self.val.sizes[index]


def predict_image(model: TADP, setup: TrainSetup, image: Sample, prompt: Prompt, device: torch.device) -> Any:
    """Return a model's prediction for one image: labels int64 or metres float32 (H, W), or a set of boxes.

    The image is resized, cut into windows, mirrored and encoded as in the recipe's evaluation. If the posterior of the VAE
    is sampled, the noise depends only on the image's id; noise that is added depends on the cell's seed, too.

    Args:
        model: trained, in evaluation mode.
        setup: setup of the model.
        image: id and pixels of the image.
        prompt: a prompt from `given_prompt`.
        device: device of the model.

    Raises:
        UserError: the image's size does not fit the model.
    """
    single = SingleImageSetup(setup.recipe, setup.seed, image, prompt, cache=setup.cache)
    told = f"image of {image.image.shape[1]} x {image.image.shape[0]} pixels"
    if unfit := single.unfit_sizes():
        raise UserError(
            f"{told}: {setup.recipe.model.why_one_size}, which limits this model to views of {setup.view} (height, width), "
            f"not {min(unfit)}; cut or resize the image"
        )
    unpadded = getattr(setup.recipe.model.head, "unpadded", None)
    if unpadded and (side := single.evaluated_side(setup.recipe.evaluation.scales)) > unpadded:
        raise UserError(
            f"{told}: model.head.unpadded={unpadded} limits this model to views of that side, not {side}; cut or resize the image"
        )
    latents = view_latents(single, model, device, [0]) | view_embeddings(single, device, [0])
    ((_, prediction),) = predictions(model, single, latents, [0], device)
    return prediction[0]


def given_prompt(setup: TrainSetup, prompt: str | Sequence[str], truncate: bool = False) -> Prompt:
    """Return a user's prompt in the form of the setup's prompts: a text, or class names for the other encodings.

    Raises:
        UserError: the model reads no text, the prompt is too long, or its names do not fit the recipe's encoding.
    """
    recipe, context = setup.recipe, setup.recipe.model.context
    if setup.pretrained.text_encoder is None or not context.reads_text:
        if prompt:
            raise UserError(
                f"prompt {prompt!r}: this model reads no text (model.context={'+'.join(context.kinds)}); give an empty one"
            )
        return ""
    if ENCODINGS[recipe.caption.encoding].of_names:
        names = names_listed(prompt) if isinstance(prompt, str) else tuple(prompt)
        check_names(setup, names)
        return names
    if not isinstance(prompt, str):
        raise UserError(
            f"prompt {prompt!r}: this model's prompts are texts (caption.encoding={recipe.caption.encoding}); give one text"
        )
    if not truncate:
        tokenizer = setup.pretrained.tokenizer
        check_length(tokenizer, prompt)
    return prompt


def check_names(setup: TrainSetup, names: tuple[str, ...]) -> None:
    """Check that the context of these names is as long as the contexts that the model was trained with.

    Raises:
        UserError: a name is empty or has no embedding, or there are too many or too few names.
    """
    caption, encoding = setup.recipe.caption, setup.recipe.caption.encoding
    if not names or not all(names):
        raise UserError(f"prompt: an empty name in {list(names)!r}; take it out (caption.encoding={encoding})")
    unknown = [name for name in names if caption.embeddings and name not in setup.classes]
    if unknown:
        raise UserError(
            f"prompt: {unknown[0]!r} is no class of caption.embeddings={str(caption.embeddings)!r}; its names are "
            f"{', '.join(setup.classes)}"
        )
    if (length := setup.contexts([names]).shape[1]) != setup.prompt_tokens:
        raise UserError(
            f"prompt: {len(names)} names make a context of {length} vectors, and this model was trained with "
            f"{setup.prompt_tokens} (caption.encoding={encoding}); give as many names as its own prompts have, separated by "
            "commas"
        )
