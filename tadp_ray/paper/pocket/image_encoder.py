"""Trains the pocket world's image encoder: a small CLIP vision model, contrastively against the frozen pocket text encoder.

As in CLIP (Radford et al. 2021), images and captions of a batch are matched by the cosine of their embeddings under a learned
temperature. Only captions are used: no masks, boxes or depth. Random numbers are functions of (seed, step).
"""

import math
import shlex
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from tadp_ray.backbones.latent.weights import INDEX
from tadp_ray.backbones.stable_diffusion.load import Diffusion, load_diffusion
from tadp_ray.captions.describe import class_list
from tadp_ray.conditioning.similarity import end_states
from tadp_ray.config.pretraining import ImageEncoderTraining
from tadp_ray.data.scenes import Scenes
from tadp_ray.errors import UserError
from tadp_ray.files import drafted_folder, write_text
from tadp_ray.layout import MODEL, PRETRAINING_FOLDER
from tadp_ray.paper.pocket.autoencoder import as_pixels
from tadp_ray.paper.pocket.card import CARD_FILE, hours
from tadp_ray.paper.pocket.latent_cache import LatentCache
from tadp_ray.paper.pocket.pretrain import PretrainJob, check_own, delete_cache, timed_lines, train
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.journal import final_metrics, read_journal
from tadp_ray.training.reporter import Journal
from tadp_ray.training.rng import generator

PATCH, WIDTH, LAYERS, HEADS = 8, 96, 3, 3
CAPTIONS = 2
"""Captions that are drawn for each scene once."""
LEARNING_RATE = 1e-3
JUDGED = 400
"""Scenes of the validation split among whose captions an image's is found."""
MEAN, STD = (0.5,) * 3, (0.5,) * 3


class Contrast(nn.Module):
    """The image encoder, and a linear layer on the text encoder's states at their eos tokens.

    Args:
        size: height and width of an image in pixels.
        width: channels of the text encoder, and of an embedding.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        config = CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            image_size=size,
            patch_size=PATCH,
            projection_dim=width,
        )
        self.vision = CLIPVisionModelWithProjection(config)
        self.text = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def similarities(self, images: Tensor, states: Tensor) -> Tensor:
        """Return the cosines (B, N) of images uint8 (B, H, W, 3) and states (N, D)."""
        embeddings = self.vision(pixel_values=as_pixels(images)).image_embeds
        return F.normalize(embeddings, dim=-1) @ F.normalize(self.text(states), dim=-1).T

    def loss(self, images: Tensor, states: Tensor) -> Tensor:
        """Return CLIP's loss of matching images and captions: the mean of both directions' cross-entropies."""
        logits = self.similarities(images, states) * self.scale.clamp(max=math.log(100)).exp()
        places = torch.arange(len(logits))
        return (F.cross_entropy(logits, places) + F.cross_entropy(logits.T, places)) / 2


def check_folder(plan: ImageEncoderTraining, folder: Path) -> None:
    """Check that a training overwrites no other model, nor the card of a pocket model.

    Raises:
        UserError: the folder is a pocket model's, or contains another training, or a model without a journal.
    """
    if (folder / INDEX).is_file():
        raise UserError(f"{folder}: is a pocket model, whose card README.md would be overwritten; name another folder")
    check_own(folder, plan.fingerprint, MODEL)


def train_image_encoder(plan: ImageEncoderTraining, folder: Path, weights: str) -> dict[str, float]:
    """Train an image encoder and write it as a folder of transformers; resume if an earlier call was interrupted.

    Args:
        plan: its settings.
        folder: output folder for config.json, preprocessor_config.json and model.safetensors.
        weights: the pocket Stable Diffusion whose digest is `plan.text`.

    Returns: its metrics, see `retrieval`.

    Raises:
        UserError: see `check_folder`.
    """
    check_folder(plan, folder)
    work, say = folder / PRETRAINING_FOLDER, timed_lines()
    if metrics := final_metrics(work, plan.fingerprint):
        delete_cache(work)
        return metrics
    torch.set_num_threads(1)
    diffusion = load_diffusion(weights)
    with Journal(work, plan.fingerprint) as journal:
        job = PretrainJob(plan, folder, None, torch.device("cpu"), ProcessGroup.current(), journal, say)
        contrast = match(job, plan, diffusion)
        save(folder, contrast.vision)
        metrics = retrieval(contrast, diffusion, plan.size)
        say("retrieval: " + ", ".join(f"{name} {value:.1f}" for name, value in metrics.items()))
        journal.finish(plan.steps, metrics)
    delete_cache(work)
    return metrics


def match(job: PretrainJob, plan: ImageEncoderTraining, diffusion: Diffusion) -> Contrast:
    """Train image encoder and text projection on rendered scenes and their captions."""
    cache = LatentCache(job.work, plan.seed, plan.images, plan.size)
    cache.render(job.world, job.say)
    images, rng = cache.images(), np.random.default_rng((plan.seed, 3))
    captions = [scene.draw(rng, drop=0.0) for scene in cache.captions() for _ in range(CAPTIONS)]
    states = end_states(diffusion.tokenizer, diffusion.text_encoder, captions)
    states = states.unflatten(0, (len(images), CAPTIONS))
    torch.manual_seed(plan.seed)
    contrast = Contrast(plan.size, states.shape[-1]).train()
    with torch.no_grad():
        # States of all texts have a large part in common, which would make every cosine nearly one.
        contrast.text.bias.copy_(-contrast.text(states.mean((0, 1))) + contrast.text.bias)

    def loss_at(step: int) -> Tensor:
        rng = generator(plan.seed, 3, step)
        chosen = torch.randperm(len(images), generator=rng)[: plan.batch]
        said = torch.randint(CAPTIONS, (len(chosen),), generator=rng)
        return contrast.loss(images[chosen], states[chosen, said])

    train(job, "image_encoder", contrast, plan.steps, LEARNING_RATE, loss_at)
    return contrast.eval()


def save(folder: Path, vision: CLIPVisionModelWithProjection) -> None:
    """Write config.json, model.safetensors in half precision, and preprocessor_config.json."""
    side = vision.config.image_size
    processor = CLIPImageProcessor(
        size={"height": side, "width": side}, do_center_crop=False, image_mean=MEAN, image_std=STD
    )
    with drafted_folder(folder) as draft:
        vision.half().save_pretrained(draft)
        processor.save_pretrained(draft)
    vision.float()


@torch.no_grad()
def retrieval(contrast: Contrast, diffusion: Diffusion, size: int) -> dict[str, float]:
    """Return how often an image's own caption is among the nearest of those of `JUDGED` validation scenes, in percent.

    A caption lists the classes in the image. Returns: `top1`, `top5`, and `chance` of the first.
    """
    scenes = Scenes("val", JUDGED, size=size)
    captions = [class_list(scenes.present(index)) for index in range(JUDGED)]
    images = torch.from_numpy(np.stack([scenes[index].image for index in range(JUDGED)]))
    states = end_states(diffusion.tokenizer, diffusion.text_encoder, captions)
    nearest = contrast.similarities(images, states).topk(5).indices.tolist()
    # Scenes with the same classes have the same caption.
    hits = [[captions[place] == own for place in row] for own, row in zip(captions, nearest, strict=True)]
    chances = [captions.count(own) / JUDGED for own in captions]
    return {
        "top1": 100 * float(np.mean([row[0] for row in hits])),
        "top5": 100 * float(np.mean([any(row) for row in hits])),
        "chance": 100 * float(np.mean(chances)),
    }


def write_section(folder: Path, plan: ImageEncoderTraining, weights: str, metrics: dict[str, float]) -> None:
    """Write the section of the model card on the image encoder as README.md into its folder.

    Args:
        folder: of the image encoder.
        plan: its settings.
        weights: the pocket Stable Diffusion with the text encoder; the command names it if it is not the shipped one.
        metrics: see `retrieval`.
    """
    model = "" if weights == "pocket" else f" --weights {shlex.quote(weights)}"
    minutes = 60 * hours(list(read_journal(folder / PRETRAINING_FOLDER)))
    tensors = load_file(folder / MODEL)
    parameters = sum(tensor.numel() for tensor in tensors.values())
    text = f"""\
## The image encoder

`image_encoder/` is a CLIP of this world: a CLIPVisionModelWithProjection of {parameters / 1e6:.2f} million parameters
({LAYERS} layers of width {WIDTH}, patches of {PATCH} pixels), stored in half precision. It was trained against the frozen
text encoder, contrastively as CLIP, on {plan.images:,} scenes like those of the pretraining with {CAPTIONS} captions each;
no masks, boxes or depth. The text's side has a linear layer, which is not kept.

```
tadp-ray pocket image-encoder FOLDER --images {plan.images} --steps {plan.steps} --batch {plan.batch} --seed {plan.seed}{model}
```

- training: {plan.steps:,} steps of {plan.batch} images, {minutes:.0f} minutes on a CPU core that other processes shared
- of an image, its own caption is the nearest of those of {JUDGED} validation scenes in {metrics["top1"]:.1f}% (chance \
{metrics["chance"]:.1f}%), and among the nearest five in {metrics["top5"]:.1f}%
"""
    write_text(folder / CARD_FILE, text)
