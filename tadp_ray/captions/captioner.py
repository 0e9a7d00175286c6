"""Describes photographs with an image-to-text model of transformers: BLIP, BLIP-2 and their like. Knows nothing of Ray."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.utils import logging as transformers_logging

from tadp_ray.errors import UserError
from tadp_ray.hub import contents_digest, from_hub
from tadp_ray.tensors import not_finite

FETCHED = ["*.json", "*.txt", "*.model", "*.safetensors"]
"""What is fetched of a hub repository, and what a model's hash is made of."""
LAYOUT = "a captioner's folder holds config.json, its processor's and tokenizer's files, and .safetensors weights"


@dataclass(frozen=True)
class CaptionerSettings:
    """What a caption depends on besides its image."""

    captioner: str
    """Name of the registered captioner."""
    model: str
    """Folder or hub id."""
    min_tokens: int = 0
    """The end is not said before so many new tokens (paper: 0, 20 and 40)."""
    max_tokens: int = 77
    batch: int = 16
    """Images described together; another number may round differently, and so turn a near tie between two words."""
    dtype: Literal["float32", "float16"] = "float32"
    cut_last_character: bool = False
    """As published: meant for a line break, it takes a letter from captions that reach `max_tokens`."""


def locate_captioner(model: str) -> Path:
    """The folder behind a captioner's name: itself, or a hub repository (fetched on first use).

    Raises:
        UserError: there is nothing, or not all of it; the message says what belongs there.
    """
    folder = Path(model)
    if not folder.is_dir():
        folder = from_hub(model, FETCHED, f"--model {model}: there is no such folder", f"; {LAYOUT}")
    if missing := [pattern for pattern in ("config.json", "*.safetensors") if not any(folder.glob(pattern))]:
        raise UserError(f"--model {model}: {folder} lacks {', '.join(missing)}; {LAYOUT}")
    return folder


def identify(settings: CaptionerSettings) -> dict[str, Any]:
    """Everything that two captioners must have in common for their captions to be of one making.

    The folder may move: a model is known by its files. A model of several gigabytes takes seconds to hash.

    Raises:
        UserError: as `locate_captioner`; or its configuration or processor cannot be read, or it describes no images.
    """
    folder = locate_captioner(settings.model)
    _processor(folder, settings.model)
    files = sorted({file for pattern in FETCHED for file in folder.glob(pattern)})
    return {
        "model_sha256": contents_digest({file.name: file for file in files}),
        "min_tokens": settings.min_tokens,
        "max_tokens": settings.max_tokens,
        "batch": settings.batch,
        "dtype": settings.dtype,
        "cut_last_character": settings.cut_last_character,
        "decoding": "greedy",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _processor(folder: Path, model: str) -> Any:
    """What turns images into a model's input and its output into text; checks without weights that there is a model."""
    try:
        config = AutoConfig.from_pretrained(folder)
        processor = AutoProcessor.from_pretrained(folder)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise UserError(f"--model {model}: {folder} cannot be read ({error}); {LAYOUT}") from None
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or not hasattr(processor, "image_processor"):
        raise UserError(
            f"--model {model}: a {config.model_type} does not turn an image into text; name a BLIP, BLIP-2 or their like"
        )
    return processor


class Captioner:
    """A frozen image-to-text model that says the likeliest word each time: no chance enters.

    What is registered as a captioner is a class like this one: made of settings and a device, called with images, and
    `identify`.

    Raises:
        UserError: as `identify`; or weights that are damaged or not all there.
    """

    identify = staticmethod(identify)

    def __init__(self, settings: CaptionerSettings, device: torch.device) -> None:
        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        self._settings, self._device = settings, device
        folder = locate_captioner(settings.model)
        self._processor = _processor(folder, settings.model)
        try:
            network, found = AutoModelForImageTextToText.from_pretrained(
                folder, use_safetensors=True, dtype=getattr(torch, settings.dtype), output_loading_info=True
            )
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise UserError(f"--model {settings.model}: {folder} cannot be loaded ({error}); {LAYOUT}") from None
        # The loader would put random numbers where tensors are missing, and go on.
        if found["missing_keys"]:
            raise UserError(
                f"--model {settings.model}: its weights lack {len(found['missing_keys'])} tensors of the architecture in "
                f"config.json, such as {min(found['missing_keys'])}; copy all files of one model"
            )
        if name := not_finite(network.state_dict()):
            raise UserError(
                f"--model {settings.model}: {name} in {folder} holds NaN or infinity; fetch the weights again"
            )
        self._network = network.to(device).eval().requires_grad_(False)

    def __call__(self, images: Sequence[np.ndarray]) -> list[str]:
        """Describe images, each uint8 (H, W, 3) RGB of its own size.

        The processor brings them to one size and no prompt is padded, so that a caption does not see its neighbours; the
        same images together give the same captions on the same kind of machine.
        """
        settings = self._settings
        pixels = self._processor(images=list(images), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            tokens = self._network.generate(
                pixel_values=pixels.to(self._device, getattr(torch, settings.dtype)),
                min_new_tokens=settings.min_tokens,
                max_new_tokens=settings.max_tokens,
                do_sample=False,
                num_beams=1,
            )
        texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
        # Some models end with a line break; the published code took one character off for that, whatever it was.
        return [text[:-1] if settings.cut_last_character else text.strip() for text in texts]
