"""Runs one personalization, in the same way under plain Python and in a Ray Train worker."""

import glob
import resource
import time
from pathlib import Path

import torch
from pydantic import ValidationError

from tadp_ray.backbones.latent.denoising import load_schedule
from tadp_ray.backbones.latent.load import frozen
from tadp_ray.backbones.latent.weights import INDEX, schedule_file, weights_digest
from tadp_ray.backbones.stable_diffusion.learned_tokens import add_token, read_learned
from tadp_ray.backbones.stable_diffusion.text_to_image import TextToImage, load_text_to_image
from tadp_ray.config.personalization import Personalization, TextualInversion
from tadp_ray.config.vocabulary import CAPTION
from tadp_ray.errors import UserError
from tadp_ray.files import file_digest, write_text
from tadp_ray.layout import LEARNED, PERSONALIZATION, SAMPLES
from tadp_ray.paper.personalization.check import check
from tadp_ray.paper.personalization.dreambooth import tune
from tadp_ray.paper.personalization.finetuner import Finetuner
from tadp_ray.paper.personalization.images import StyleImages, encode_pictures, read_style_images
from tadp_ray.paper.personalization.job import PersonalizationJob
from tadp_ray.paper.personalization.samples import draw, write_samples
from tadp_ray.paper.personalization.textual_inversion import invert
from tadp_ray.training.digests import changed_names
from tadp_ray.training.journal import check_journal, final_metrics, read_journal
from tadp_ray.training.precision import allow_tf32
from tadp_ray.training.reporter import Journal, Reporter
from tadp_ray.training.transfer import check_gpu


def make_job(plan: Personalization, seed: int, folder: Path) -> PersonalizationJob:
    """Check a plan and return its job.

    Raises:
        UserError: weights or images are missing, `check` fails, or the folder contains another personalization.
    """
    if plan.images.kind == "folder":
        # Brackets in the working folder's name are no pattern.
        files = plan.images.model_copy(update={"files": str(Path(glob.escape(str(Path.cwd())), plan.images.files))})
        plan = plan.model_copy(update={"images": files})
    # A folder of this name is not the shipped model.
    if plan.weights != "pocket" and Path(plan.weights).exists():
        plan = plan.model_copy(update={"weights": str(Path(plan.weights).absolute())})
    images = read_style_images(plan.images)
    load_schedule(plan.weights)
    check(plan, images)
    job = PersonalizationJob(plan=plan, seed=seed, folder=folder.absolute(), digests=digests_of(plan, images))
    remedy = "its settings, images, weights or code were others: name another folder with --out, or delete this one"
    check_journal(job.folder, job.fingerprint, remedy)
    return job


def digests_of(plan: Personalization, images: StyleImages) -> dict[str, str]:
    """Return the content hashes of a plan's weights, noise schedule and images."""
    return {**model_digests(plan), "images": images.digest()}


def model_digests(plan: Personalization) -> dict[str, str]:
    """Return the content hashes of a plan's weights and noise schedule."""
    return {"weights": weights_digest(plan.weights), "schedule": file_digest(schedule_file(plan.weights))}


def check_contents(job: PersonalizationJob) -> None:
    """Check that weights and images are those of the job's hashes.

    Raises:
        UserError: weights or images changed since the job was created.
    """
    if changed := changed_names(digests_of(job.plan, read_style_images(job.plan.images)), job.digests):
        raise UserError(
            f"{' and '.join(changed)} changed since this personalization was begun; put back what was there, or name another "
            "folder with --out"
        )


def load_personalized(folder: Path) -> tuple[PersonalizationJob, TextToImage, TextToImage]:
    """Load a finished personalization; return its job, the original model and the personalized one.

    Raises:
        UserError: the folder has no finished personalization, its files are damaged, or the original model is another now.
    """
    job = read_card(folder / PERSONALIZATION)
    if job is None or final_metrics(folder, job.fingerprint) is None:
        if any(record["type"] == "finished" for record in read_journal(folder)):
            raise UserError(
                f"{folder} holds a personalization that other code has made, or with other settings than its card says; delete "
                "it, and tadp-ray personalize makes it anew"
            )
        raise UserError(f"{folder} holds no finished personalization; tadp-ray personalize makes one")
    if changed := changed_names(model_digests(job.plan), job.digests):
        raise UserError(
            f"{folder}: the {' and '.join(changed)} of {job.plan.weights} changed since this was learned; put back what was "
            "there, or delete the folder, and tadp-ray personalize makes it anew"
        )
    before = load_text_to_image(job.plan.weights)
    if job.plan.method.kind == "dreambooth":
        return job, before, load_text_to_image(str(folder))
    after, path = load_text_to_image(job.plan.weights), folder / LEARNED
    frozen(add_token(after.diffusion.tokenizer, after.diffusion.text_encoder, read_learned(path), str(path)))
    return job, before, after


def check_result(job: PersonalizationJob) -> None:
    """Check that the result of a finished personalization is there.

    Raises:
        UserError: it was deleted; the journal alone is left.
    """
    made = job.folder / (LEARNED if isinstance(job.plan.method, TextualInversion) else INDEX)
    if not made.is_file():
        raise UserError(f"{made} was made and is gone; delete {job.folder}, and the same command makes it anew")


def read_card(path: Path) -> PersonalizationJob | None:
    """Read the job of a personalization from its file; None if the file does not exist.

    Raises:
        UserError: the file is damaged, or was written by another version of the code.
    """
    if not path.is_file():
        return None
    try:
        return PersonalizationJob.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(
            f"{path}: is no card of a personalization ({error.errors()[0]['msg']}); delete the folder, and "
            "tadp-ray personalize makes it anew"
        ) from None


def personalize(job: PersonalizationJob, device: torch.device) -> dict[str, float]:
    """Run a personalization unless its journal shows that it is finished; return its final metrics in both cases.

    Raises:
        UserError: the plan, the images or a checkpoint do not fit.
    """
    with Journal(job.folder, job.fingerprint) as journal:
        metrics = final_metrics(job.folder, job.fingerprint)
        if metrics is None:
            metrics = run(job, device, journal)
            journal.finish(job.plan.schedule.iterations, metrics)
        return metrics


def run(job: PersonalizationJob, device: torch.device, reporter: Reporter) -> dict[str, float]:
    """Train one personalization, write the result and samples, and return the final metrics."""
    plan, began = job.plan, time.monotonic()
    check_gpu(device, plan.compute.gpus)
    torch.set_num_threads(plan.compute.cpus)
    # The default of torch 1.11, with which the published code runs.
    allow_tf32(True)
    torch.manual_seed(job.seed)
    check_contents(job)
    write_text(job.folder / PERSONALIZATION, job.model_dump_json(indent=1))

    model = load_text_to_image(plan.weights).to(device)
    diffusion = model.diffusion
    if plan.compute.gradient_checkpointing:
        diffusion.unet.enable_gradient_checkpointing()
    images = read_style_images(plan.images)
    latents = encode_pictures(diffusion.vae, images.pictures)
    finetuner = Finetuner(job, diffusion, model.schedule, images, latents, device, reporter)
    # Before training, since DreamBooth changes the model in place.
    before = draw(model, plan.samples, (job.seed, 30))
    if isinstance(plan.method, TextualInversion):
        metrics = invert(finetuner, plan.method)
    else:
        metrics = tune(finetuner, model, plan.method)
    prompts = [plan.sampled_as.replace(CAPTION, caption) for caption in plan.samples]
    rows = [("as it was", before), (plan.sampled_as, draw(model, prompts, (job.seed, 30)))]
    check_contents(job)
    write_samples(job.folder / SAMPLES, list(images.pictures), plan.samples, rows)
    return {
        **metrics,
        "seconds": metrics["seconds"] + time.monotonic() - began,
        # Linux reports the peak resident set in KiB.
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
