"""One training step of the depth, smp and detection heads on fixed features, shared by however many processes run it."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel

from tadp_ray.tasks.build import build_head
from tadp_ray.tasks.depth.config import DepthHeadConfig
from tadp_ray.tasks.depth.losses import silog_loss
from tadp_ray.tasks.detection.config import FasterRCNNConfig
from tadp_ray.tasks.segmentation.config import SmpFPNConfig
from tadp_ray.tasks.segmentation.losses import focal_loss

# Small enough that an image has fewer anchors than could be sampled: then images give unequally many samples.
IMAGES, SIDE, CHANNELS = 4, 32, (16, 12, 12, 8)
HEADS = {
    "depth": DepthHeadConfig(kind="vpd_depth", fused=32, deconvolved=8, channels=16),
    "smp": SmpFPNConfig(kind="smp_fpn", pyramid=16, channels=64),
    "detection": FasterRCNNConfig(kind="faster_rcnn", channels=16, representation=32, anchors=(8, 12, 18, 24)),
}
BOXES = (
    [],
    [[2, 2, 15, 20]],
    [[0, 0, 32, 32], [5, 10, 15, 20], [20, 4, 30, 12]],
    [[x, y, x + 7, y + 8] for x in (1, 11, 21) for y in (2, 12, 23)],
)


def main(output: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    share = slice(rank * IMAGES // size, (rank + 1) * IMAGES // size)
    torch.manual_seed(0)
    features = [torch.randn(IMAGES, count, 8 >> level, 8 >> level) for level, count in enumerate(CHANNELS)]
    keep = (torch.rand(IMAGES, 64) > 0.3) / 0.7
    mask, depth = torch.randint(3, (IMAGES, 8, 8)), 10 * torch.rand(IMAGES, 64, 64)
    mask[0, :5], depth[3, 8:] = 255, 0  # what is scored is shared out unevenly
    targets = [
        {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.arange(len(boxes)) % 3,
            "generator": torch.Generator().manual_seed(image),
        }
        for image, boxes in enumerate(BOXES)
    ]
    mine = [level[share] for level in features]

    found, samples = {}, {}
    for name, config in HEADS.items():
        head = build_head(CHANNELS, (4, 8, 16, 32), 3, config).train()
        parallel = DistributedDataParallel(head)
        if name == "detection":
            losses = parallel(mine, (SIDE, SIDE), targets[share])
            samples = {part: getattr(head, part).fg_bg_sampler.drawn for part in ("rpn", "roi_heads")}
        elif name == "smp":
            losses = {"loss": focal_loss(parallel(mine, keep[share]), mask[share])}
        else:
            losses = {"loss": silog_loss(parallel(mine)[:, 0], depth[share])}
        sum(losses.values()).backward()
        for part, loss in losses.items():
            mean = loss.detach().clone()
            dist.all_reduce(mean)
            found[f"loss.{name}.{part}"] = mean / size
        found |= {f"gradient.{name}.{part}": p.grad for part, p in head.named_parameters()}
        found |= {f"statistics.{name}.{part}": b for part, b in head.named_buffers() if "running" in part}

    for part, count in samples.items():
        counts = [torch.zeros(()) for _ in range(size)]
        dist.all_gather(counts, torch.tensor(float(count)))
        found[f"samples.{part}"] = torch.stack(counts)
    if rank == 0:
        save_file(found, output)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
