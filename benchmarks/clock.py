"""Seconds and memory of work on a CPU or a GPU."""

import resource
import time
from collections.abc import Callable

import torch


def wait_for(device: str) -> None:
    """Wait until a GPU has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object], device: str, count: int, warm: int = 1) -> list[float]:
    """Seconds of each of `count` calls, behind `warm` others that are not timed."""
    for _ in range(warm):
        work()
    spent = []
    for _ in range(count):
        wait_for(device)
        began = time.perf_counter()
        work()
        wait_for(device)
        spent.append(time.perf_counter() - began)
    return spent


def peak_memory(device: str) -> float:
    """GiB at most, so far: tensors on a GPU, or all that this process held on a CPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def allow_tf32(matrices: bool, convolutions: bool) -> None:
    """Let a GPU round the inputs of float32 products to TF32; torch's own choice is convolutions alone."""
    torch.backends.cuda.matmul.allow_tf32 = matrices
    torch.backends.cudnn.allow_tf32 = convolutions
