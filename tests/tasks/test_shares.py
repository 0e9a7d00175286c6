"""Scores of a data set that several processes share out, and what one of them refuses."""

from pathlib import Path

import pytest

SCRIPT = """\
import torch, torch.distributed as dist
from tadp_ray.errors import UserError
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.tasks.depth.metrics import DepthMetrics
from tadp_ray.tasks.detection.metrics import DetectionMetrics
from tadp_ray.tasks.norms import GlobalBatchNorm2d
from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics

dist.init_process_group("gloo")
chance = torch.Generator().manual_seed(0)
IMAGES = 5
depth = 1 + torch.rand(2, IMAGES, 4, 4, generator=chance)
depth[1, 3] = 0
# All scores are equal, so that the order of the images decides.
corner = 20 * torch.rand(IMAGES, 6, 2, generator=chance)
objects = torch.cat([corner, corner + 10], 2)
found = objects + torch.randint(-2, 3, objects.shape, generator=chance)
labels = torch.zeros(6, dtype=torch.int64)

def score(metrics, data, images):
    for i in images:
        metrics.accumulate(*(part[i : i + 1] for part in data))
    return metrics

boxes = (
    [{"boxes": box, "scores": torch.full((6,), 0.5), "labels": labels} for box in found],
    [{"boxes": box, "difficult": labels > 0, "labels": labels} for box in objects],
)
masks = torch.randint(3, (2, IMAGES, 4, 4), generator=chance)
makers = (lambda: SegmentationMetrics("abc"), DepthMetrics, lambda: DetectionMetrics(["cat"]))
for make, data in zip(makers, (masks, depth, boxes), strict=True):
    share = score(make(), data, ProcessGroup.current().part(IMAGES, 2))
    share.reduce()
    whole = score(make(), data, range(IMAGES))
    assert share.images == whole.images
    assert share.compute() == whole.compute()

# Of bfloat16, as an autocast pass hands it on: statistics are in single precision, as in one process.
images = torch.randn(4, 3, 5, 5, generator=chance).mul(2).add(7).bfloat16()
alone, shared = torch.nn.BatchNorm2d(3), GlobalBatchNorm2d(3)
half = slice(2 * dist.get_rank(), 2 * dist.get_rank() + 2)
expected, found = alone(images)[half], shared(images[half])
assert found.dtype == expected.dtype == torch.bfloat16
torch.testing.assert_close(found, expected)
torch.testing.assert_close(shared.running_var, alone.running_var)
# An evaluation has the running statistics, whatever images a process has.
torch.testing.assert_close(shared.eval()(images[half]), alone.eval()(images[half]))

def check():
    if dist.get_rank() == 1:
        raise UserError("one's file has changed")

try:
    ProcessGroup.current().together(check)
except UserError as error:
    assert str(error) == "one's file has changed"
else:
    raise AssertionError("not told")
ProcessGroup.current().together(lambda: None)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_score_what_one_does_and_refuse_together(distributed, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(SCRIPT)
    distributed(2, tmp_path / "worker.py")
