"""What a cell runs on and where it is written, in YAML."""

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from tadp_ray.addresses import holds_secret
from tadp_ray.config.vocabulary import OPEN_ADDRESS, PlaceText, StrictModel
from tadp_ray.layout import STORAGE


class ComputeConfig(StrictModel):
    """What a cell is given to run on. Nothing here changes what a cell means, and only the threads of CPUs its last digits.

    So all of it stays out of the fingerprint, but for `cpus` where there are no GPUs.
    """

    num_train_workers: int = Field(
        0, ge=0, description="0: train inside the sweep's warm trial process; N: N Ray Train workers per cell"
    )
    cpus: int = Field(
        1,
        ge=1,
        description="CPU cores (and threads) per worker; without GPUs they change the last digits, and make other cells",
    )
    gpus: float = Field(0, ge=0, description="GPUs per worker: whole ones, or a share of one, which cells then share")
    max_parallel: int = Field(
        0,
        ge=0,
        description="cells at once that an autoscaling cluster may add nodes for; 0: as many as fit on those that are there",
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory, a third more time"
    )
    num_workers: int = Field(0, ge=0, description="processes per worker that read and augment images ahead of training")
    checkpoint_every: int = Field(100, ge=1, description="optimizer steps between checkpoints for resuming")
    checkpoint_minutes: float = Field(
        10, gt=0, description="a checkpoint is due after so many minutes, too, however few steps they were"
    )
    max_failures: int = Field(2, ge=0, description="times a cell is restarted from its checkpoint after a crash")
    storage: PlaceText = Field(
        STORAGE,
        description="where cells, checkpoints and tables are written: a folder that all nodes share, or an address "
        "(s3://bucket/folder), of which ./runs holds a copy",
    )

    @field_validator("storage")
    @classmethod
    def _no_secret(cls, storage: str) -> str:
        if holds_secret(storage):
            raise ValueError(OPEN_ADDRESS)
        return storage

    @model_validator(mode="after")
    def _whole_gpus(self) -> "ComputeConfig":
        if self.gpus % 1 and (self.gpus > 1 or self.num_train_workers > 1):
            raise ValueError(
                f"gpus {self.gpus} of {self.world_size} worker(s): a worker has whole GPUs, or a share of one where it trains "
                "its cell alone, since NCCL joins no two processes on one GPU; use a whole number, or num_train_workers: 1"
            )
        return self

    @property
    def address(self) -> str | None:
        """Where storage is, if that is no folder."""
        return self.storage if "://" in self.storage else None

    @property
    def folder(self) -> Path:
        """Where this machine keeps what is stored, or a copy of it."""
        return Path(STORAGE if self.address else self.storage).absolute()

    @property
    def world_size(self) -> int:
        """Processes that train one cell together."""
        return max(1, self.num_train_workers)
