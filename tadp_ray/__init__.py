"""tadp_ray: what does text do to a diffusion backbone? Text-conditioned diffusion perception, swept and tabled.

backbone = tadp_ray.load_backbone("pocket")
features = backbone.features("photo.jpg", "a bird and a dog")              # four maps, largest first
maps = backbone.attention_maps("photo.jpg", "a bird and a dog").words      # word -> where the model looks for it

What `__all__` names is loaded when it is first used: `import tadp_ray` alone loads neither torch, Ray nor MLflow.
"""

import importlib
import os
from typing import Any

from tadp_ray.logs import start_log

# albumentations asks the network for news of itself when it is imported, in every worker.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
start_log()

__version__ = "0.1.0"

PLACES = {
    "Attention": "paper.analysis.attention",
    "Backbone": "api.backbone",
    "Prediction": "api.trained",
    "Recipe": "config.schema",
    "Sample": "data.sample",
    "TrainedModel": "api.trained",
    "UserError": "errors",
    "build_recipe": "api.recipes",
    "check_recipe": "api.recipes",
    "load_backbone": "api.backbone",
    "load_trained": "api.trained",
    "open_dataset": "data.datasets",
    "read_experiment": "api.experiments",
    "read_image": "api.images",
    "run_experiment": "api.experiments",
    "train": "api.experiments",
}
"""The modules that the public names live in."""
__all__ = ["__version__", *PLACES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """A public name, its module loaded now."""
    if name not in PLACES:
        raise AttributeError(f"module 'tadp_ray' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tadp_ray.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    """Public names, and what stands in the module."""
    return sorted({*globals(), *__all__})
