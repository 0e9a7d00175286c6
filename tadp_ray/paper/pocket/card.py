"""The model card of a pocket model: architecture, pretraining, results of the gate and limitations."""

import shlex
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

from tadp_ray.config.claims import Verdict
from tadp_ray.config.pretraining import Pretraining
from tadp_ray.data.drawings import SUBGROUPS
from tadp_ray.data.scenes import STUFF, THINGS
from tadp_ray.files import write_text
from tadp_ray.paper.pocket.gate import TIMES, WRONG_CAPTIONS, format_rises
from tadp_ray.paper.pocket.report import aims_table
from tadp_ray.training.journal import read_journal
from tadp_ray.training.provenance import merged

CARD_FILE = "README.md"
TOLD = ("commit", "hardware.cpu", "hardware.cores", "version.torch", "version.diffusers", "version.transformers")
"""What a card tells of the code and the machine that trained the model."""
CARD = Template("""\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# Pocket $name

A $name of $millions million parameters that draws $size x $size pictures of scenes that are composed of drawings
(`tadp_ray.data.scenes`): $count things in subgroups of look-alikes ($groups) on grass, sand, road or snow, under a sky, some
before a hill or a wall, as a photo, a night photo, a watercolor or a comic. It exists so that experiments on text and diffusion
features run on a laptop in minutes. It is an ordinary diffusers folder:

```python
from diffusers import $pipeline

pipeline = $pipeline.from_pretrained("$folder"$load)
picture = pipeline("a photo of a bus, grass and sky", num_inference_steps=25, guidance_scale=3$call).images[0]
```

![what it draws for the name of each thing](drawings.png)

| part | class | what it is |
|---|---|---|
| VAE | AutoencoderKL | channels 24-48-96, factor 4, 4 latent channels |
| $denoiser | $architecture |
| text encoder | CLIPTextModel | 2 layers of width 64, 77 positions, $text |
| tokenizer | CLIPTokenizer | some 400 English words as single tokens, anything else in letters |
| scheduler | DDIMScheduler | scaled-linear betas, **v_prediction** as in Stable Diffusion 2, where 1.5 predicts noise |
| classifier.safetensors | a convolutional network | judges drawn pictures; no part of the pipeline |

Networks are stored in half precision, the text encoder in single.

## How it was made

```
$command
```

$facts

Scenes were rendered once and drawn from with replacement: $images scenes, $seen drawn for the $denoiser, a batch of $batch.
A third of the scenes are close-ups of one or two things, and a third are crowds of four to six. A $denoiser that starts from
random weights sees only close-ups in the first fifth of its steps. Captions are
class lists, class lists in a phrase that names the style ("a night photo of"), sentences, and a captioner's sentences with counts
and places; one name in seven that has a synonym is replaced by it, and one caption in ten is empty. Nothing but text-conditional
denoising is trained: no masks, boxes or depth. The weights are a moving average.

Labelled scenes have the same appearance as these. Three families of emoji under permissive licences were seen, Noto, Fluent flat
and Fluent; Twemoji (the style sticker) and OpenMoji (sketch) were not.

## What the gate found

The shipped files, loaded again, on 160 scenes of a seed that no pretraining uses.

$aims

Rise of the denoising error when the caption is wrong, under the same noise:

$rises

Attention maps have an average precision of $precision% as scores of a thing's pixels. Reconstruction: PSNR $psnr dB.

## Limits

- Only the world's $classes class names and the words of its captions were ever trained; other words keep their random first
  embeddings and mean nothing.
- The things are emoji before simple backgrounds, and a photo is only called so. Nothing here says anything about photographs.

Licence: Apache-2.0, as the project's. Drawings under Apache-2.0 and MIT went in (`assets/drawings/NOTICE.md`); no other
third-party images, and no texts or weights.
""")


def write_card(
    folder: Path,
    work: Path,
    plan: Pretraining,
    figures: Mapping[str, float],
    verdicts: Sequence[Verdict],
    options: Mapping[str, object],
) -> None:
    """Write the model card README.md into the diffusers folder of a finished pretraining.

    Args:
        folder: the diffusers folder.
        work: folder of the pretraining's journal.
        plan: settings of the pretraining.
        figures: metrics of the gate.
        verdicts: comparison of these with their targets.
        options: of the command that reproduces the model, by name.
    """
    records = list(read_journal(work))
    facts = {"time": f"{hours(records):.1f} hours", **provenance_of(records)}
    text = CARD.substitute(
        millions=f"{figures['parameters'] / 1e6:.1f}",
        size=plan.size,
        count=len(THINGS),
        groups="; ".join(map(", ".join, SUBGROUPS.values())),
        **kind_of(plan),
        command=command_with(options),
        facts="\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
        images=f"{plan.images:,}",
        seen=f"{plan.seen:,}",
        batch=plan.unet_batch,
        aims=aims_table(figures, verdicts),
        rises=format_rises(
            {(kind, time): figures[f"caption/{kind} t={time}"] for kind in WRONG_CAPTIONS for time in TIMES}
        ),
        precision=f"{figures['attention/average_precision']:.1f}",
        psnr=f"{figures['psnr']:.1f}",
        classes=len(THINGS) + len(STUFF),
    )
    write_text(folder / CARD_FILE, text)


def kind_of(plan: Pretraining) -> dict[str, str]:
    """Return what a card says of the kind of model, by placeholder."""
    if plan.backbone == "dit":
        return {
            "name": "PixArt",
            "folder": "FOLDER",
            "pipeline": "PixArtSigmaPipeline",
            "load": "",
            "call": ", use_resolution_binning=False, max_sequence_length=77",
            "denoiser": "DiT",
            "architecture": f"PixArtTransformer2DModel | width {plan.width}, {plan.blocks} blocks of {plan.heads} heads, patches "
            "of 2 x 2 latents; the padding of texts is not read",
            "text": "of the model that it started from, and frozen if that has a U-Net"
            if plan.start
            else "trained together with the DiT",
        }
    return {
        "name": "Stable Diffusion",
        "folder": "tadp_ray/assets/pocket",
        "pipeline": "StableDiffusionPipeline",
        "load": ", safety_checker=None",
        "call": "",
        "denoiser": "U-Net",
        "architecture": f"UNet2DConditionModel | channels {'-'.join(map(str, plan.channels))}, 2 layers a block, cross-attention "
        "at the first three levels",
        "text": "trained together with the U-Net",
    }


def command_with(options: Mapping[str, object]) -> str:
    """Return the command of a pretraining, as a shell reads it."""
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return shlex.join(["tadp-ray", "pocket", "pretrain", "FOLDER", *words])


def provenance_of(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return commit, machine and versions of a pretraining; all of them in order, if it was resumed with others."""
    starts = [record.get("provenance", {}) for record in records if record["type"] == "started"]
    tags = reduce(merged, starts)
    return {name: tags[f"tadp.{name}"] for name in TOLD if f"tadp.{name}" in tags}


def hours(records: list[dict]) -> float:
    """Return the duration of a pretraining without interruptions, which end where a new start follows a record."""
    worked = (after["time"] - before["time"] for before, after in pairwise(records) if after["type"] != "started")
    return sum(worked) / 3600
