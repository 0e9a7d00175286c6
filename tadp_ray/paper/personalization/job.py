"""A resolved personalization with a fingerprint of everything that can change its result."""

from functools import cached_property
from pathlib import Path

from tadp_ray.config.fingerprint import DEFAULTS, all_but, changed, sha256_of
from tadp_ray.config.personalization import PersonalCompute, Personalization
from tadp_ray.config.vocabulary import StrictModel


class PersonalizationJob(StrictModel):
    """One resolved personalization: its settings, seed, folder and the hashes of weights and images."""

    plan: Personalization
    seed: int
    folder: Path
    """Folder of its journal, checkpoints, samples and result."""
    digests: dict[str, str]
    """Content hashes of weights and images."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that can change the result, and nothing else (64 hex digits)."""
        compute = True if self.plan.compute.gpus else all_but(PersonalCompute, "cpus")
        located = {"compute": compute, "weights": True, "images": {"files": True}}
        settings = changed(self.plan, without=located)
        return sha256_of({"defaults": DEFAULTS, "plan": settings, "seed": self.seed, "digests": self.digests})
