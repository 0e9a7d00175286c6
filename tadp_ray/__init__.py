"""tadp_ray: what does text do for a diffusion backbone? Text-conditioned diffusion perception: sweeps, tables, figures.

backbone = tadp_ray.load_backbone("pocket")
features = backbone.features("photo.jpg", "a cat and a dog")               # four maps, largest first
maps = backbone.attention_maps("photo.jpg", "a cat and a dog").words       # word -> attention map

The names in `__all__` are imported at their first use: `import tadp_ray` alone does not import torch, Ray or MLflow.
"""

import importlib
import os
from typing import Any

from tadp_ray.logs import start_log

# albumentations checks for updates over the network at import, in every worker.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
start_log()

__version__ = "0.1.0"

MODULES = {
    "Attention": "paper.analysis.attention",
    "Backbone": "api.backbone",
    "Prediction": "api.trained",
    "Recipe": "config.recipe",
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
"""Modules of the public names."""
__all__ = ["__version__", *MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Import the module of a public name, and return the name."""
    if name not in MODULES:
        raise AttributeError(f"module 'tadp_ray' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tadp_ray.{MODULES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names and the module's globals."""
    return sorted({*globals(), *__all__})
