"""A personalization as a job: resolved, and known by the fingerprint of everything that can change its result."""

from functools import cached_property
from pathlib import Path

from tadp_ray.config.fingerprint import DEFAULTS, changed, sha256_of
from tadp_ray.config.personalization import Personalization
from tadp_ray.config.vocabulary import Vocabulary


class Job(Vocabulary):
    """One personalization, resolved: its seed, its folder and the contents it starts from."""

    plan: Personalization
    seed: int
    folder: Path
    """Where its journal, checkpoints, samples and result lie."""
    digests: dict[str, str]
    """Content hashes of weights and images."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that can change the result, and of nothing else (64 hex digits)."""
        located = {"compute": True, "weights": True, "images": {"files": True}}
        settings = changed(self.plan, without=located)
        return sha256_of({"defaults": DEFAULTS, "plan": settings, "seed": self.seed, "digests": self.digests})
