"""Captions images with an image-to-text model of transformers, such as BLIP or BLIP-2. Does not import Ray."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from tadp_ray.errors import UserError
from tadp_ray.hub import contents_digest, from_hub, quiet_transformers
from tadp_ray.tensors import not_finite
from tadp_ray.wording import pluralized

FETCHED = ["*.json", "*.txt", "*.model", "*.safetensors"]
"""The files of a hub repository that are downloaded, and hashed to identify the model."""
LAYOUT = "a captioner's folder holds config.json, its processor's and tokenizer's files, and .safetensors weights"


@dataclass(frozen=True)
class CaptionerSettings:
    """Everything except the image that a caption depends on."""

    captioner: str
    """Name of the registered captioner."""
    model: str
    """Folder or hub id."""
    min_tokens: int = 0
    """Minimum number of new tokens (paper: 0, 20 and 40)."""
    max_tokens: int = 77
    batch: int = 16
    """Images per batch; another number may round differently, and so change the choice between two nearly equal words."""
    dtype: Literal["float32", "float16"] = "float32"
    cut_last_character: bool = False
    """As in the published code: meant for a line break, it removes a letter from captions with `max_tokens` tokens."""


def locate_captioner(model: str) -> Path:
    """Return a captioner's folder, or download it from the hub on first use.

    Raises:
        UserError: it does not exist, or files are missing.
    """
    folder = Path(model)
    if not folder.is_dir():
        folder = from_hub(model, FETCHED, f"--model {model}: there is no such folder", f"; {LAYOUT}")
    if missing := [pattern for pattern in ("config.json", "*.safetensors") if not any(folder.glob(pattern))]:
        raise UserError(f"--model {model}: {folder} lacks {', '.join(missing)}; {LAYOUT}")
    return folder


def identify(settings: CaptionerSettings) -> dict[str, Any]:
    """Return what identifies a captioner: two captioners with the same facts make the same captions.

    The model is identified by the content of its files, not by its path. Hashing several gigabytes takes seconds.

    Raises:
        UserError: as `locate_captioner`; or its configuration or processor cannot be read, or it is not an image-to-text model.
    """
    folder = locate_captioner(settings.model)
    _processor(folder, settings.model)
    files = sorted({file for pattern in FETCHED for file in folder.glob(pattern)})
    return {
        "model_sha256": contents_digest({file.name: file for file in files}),
        **{name: value for name, value in asdict(settings).items() if name not in ("captioner", "model")},
        "decoding": "greedy",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _processor(folder: Path, model: str) -> Any:
    """Load the processor, and check without the weights that the model is an image-to-text model."""
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
    """A frozen image-to-text model with greedy decoding.

    A registered captioner is a class like this one: created from settings and a device, called with images, and with a static
    method `identify`.

    Raises:
        UserError: as `identify`; or weights are damaged or missing.
    """

    identify = staticmethod(identify)

    def __init__(self, settings: CaptionerSettings, device: torch.device) -> None:
        quiet_transformers()
        self._settings, self._device = settings, device
        folder = locate_captioner(settings.model)
        self._processor = _processor(folder, settings.model)
        try:
            network, found = AutoModelForImageTextToText.from_pretrained(
                folder, use_safetensors=True, dtype=getattr(torch, settings.dtype), output_loading_info=True
            )
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise UserError(f"--model {settings.model}: {folder} cannot be loaded ({error}); {LAYOUT}") from None
        # The loader initializes missing tensors at random.
        if found["missing_keys"]:
            raise UserError(
                f"--model {settings.model}: its weights lack {pluralized(len(found['missing_keys']), 'tensors')} of the "
                f"architecture in config.json, such as {min(found['missing_keys'])}; copy all files of one model"
            )
        if name := not_finite(network.state_dict()):
            raise UserError(
                f"--model {settings.model}: {name} in {folder} holds NaN or infinity; fetch the weights again"
            )
        self._network = network.to(device).eval().requires_grad_(False)

    def __call__(self, images: Sequence[np.ndarray]) -> list[str]:
        """Caption images, uint8 (H, W, 3) RGB of any size.

        The processor resizes them, and nothing is padded, so a caption does not depend on the other images. The same batch
        gives the same captions on the same kind of machine.
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
        # Some models end with a line break; the published code removes the last character, whatever it is.
        return [text[:-1] if settings.cut_last_character else text.strip() for text in texts]
