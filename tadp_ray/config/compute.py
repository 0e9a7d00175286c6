"""Keys of where a cell runs and where its files are stored."""

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from tadp_ray.addresses import holds_secret
from tadp_ray.config.vocabulary import CREDENTIALS_IN_ADDRESS, ExpandedText, StrictModel
from tadp_ray.layout import STORAGE
from tadp_ray.wording import pluralized


class ComputeConfig(StrictModel):
    """Resources and storage of a cell.

    They change at most the last digits of its results, so they are not part of the fingerprint. The exceptions are `compile`, and
    `cpus` if there are no GPUs.
    """

    num_train_workers: int = Field(
        0,
        ge=0,
        description="number of Ray Train workers per cell; 0: train in a process of the sweep, which is reused for further cells",
    )
    cpus: int = Field(
        1,
        ge=1,
        description="CPU cores and threads per worker. Without GPUs, they change the last digits and are part of the fingerprint",
    )
    gpus: float = Field(0, ge=0, description="GPUs per worker; with a fraction, several cells share one GPU")
    max_parallel: int = Field(
        0,
        ge=0,
        description="maximum number of parallel cells; an autoscaling cluster adds nodes for this number. 0: as many cells as "
        "fit on the current nodes",
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass, which takes less memory and a third more time"
    )
    compile: bool = Field(
        False,
        description="compile the training step with torch.compile. This takes some minutes at the start of a cell and makes its "
        "steps faster. Evaluation is not compiled. The key changes the last digits and is part of the fingerprint",
    )
    deterministic: bool = Field(
        False,
        description="use only deterministic algorithms, so that runs on a GPU give identical results. If an operation has no "
        "such algorithm, an error names it. false: the last digits may differ between runs on a GPU, but never on a CPU",
    )
    num_workers: int = Field(
        0, ge=0, description="data-loading processes per worker, which read and augment images ahead of the training"
    )
    checkpoint_every: int = Field(100, ge=1, description="optimizer steps between checkpoints for resuming")
    checkpoint_minutes: float = Field(
        10,
        gt=0,
        description="maximum number of minutes between checkpoints, even if checkpoint_every steps take longer",
    )
    max_failures: int = Field(
        2, ge=0, description="how many times a cell is restarted from its checkpoint after a crash"
    )
    storage: ExpandedText = Field(
        STORAGE,
        description="where cells, checkpoints and tables are stored: a folder that all nodes share, or an address "
        "(s3://bucket/folder) with a local copy in ./runs",
    )

    @field_validator("storage")
    @classmethod
    def _no_secret(cls, storage: str) -> str:
        if holds_secret(storage):
            raise ValueError(CREDENTIALS_IN_ADDRESS)
        return storage

    @model_validator(mode="after")
    def _whole_gpus(self) -> "ComputeConfig":
        if self.gpus % 1 and (self.gpus > 1 or self.num_train_workers > 1):
            raise ValueError(
                f"gpus {self.gpus} of {pluralized(self.world_size, 'workers')}: a worker has whole GPUs, or a share of one where "
                "it trains its cell alone, since NCCL joins no two processes on one GPU; use a whole number, or "
                "num_train_workers: 1"
            )
        return self

    @model_validator(mode="after")
    def _one_graph(self) -> "ComputeConfig":
        if self.compile and self.gradient_checkpointing:
            raise ValueError(
                "compile and gradient_checkpointing do not go together: torch cannot compile a step that is recomputed as one "
                "graph; leave one out (a compiled step needs less memory, too)"
            )
        return self

    @property
    def storage_address(self) -> str | None:
        """The address of the storage; None if it is a folder."""
        return self.storage if "://" in self.storage else None

    @property
    def folder(self) -> Path:
        """The folder of the storage, or of this machine's copy of it."""
        return Path(STORAGE if self.storage_address else self.storage).absolute()

    @property
    def world_size(self) -> int:
        """Processes that train one cell together."""
        return max(1, self.num_train_workers)
