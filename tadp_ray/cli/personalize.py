"""Personalization: textual inversion and DreamBooth."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from tadp_ray.cli.common import AddressOption, TrackingOption, console, names_of, say
from tadp_ray.config.vocabulary import SEED_MAX
from tadp_ray.errors import said_as
from tadp_ray.layout import STORAGE


# A personalization's weights are no group's.
@said_as({"--set model.weights=": "--set weights=", "model.weights=": "weights="})
def personalize(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="Personalization: a file or a shipped name, e.g. pocket_token_night.",
            autocompletion=names_of("personalizations"),
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output folder for the result, the samples and the journal.", show_default="runs/personalized/RECIPE"
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Override a key: key=value, e.g. images.files='PHOTOS/*.jpg' if images.kind is folder. Repeatable.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="Random seed.")] = 0,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check images, weights and prompts, and print the settings, without training."),
    ] = False,
) -> None:
    """Learn a style from a few images.

    Textual inversion learns a token. DreamBooth fine-tunes the U-Net. To use your own images, set `images: {kind: folder, files:
    'PHOTOS/*.jpg', count: 5}` in a file, e.g. in a copy of token_watercolor.

    To use the result in a training recipe, set model.embeddings (the file of the token) or model.weights (the folder of the
    fine-tuned model), and add the token or the prompt to caption.modifiers.

    If the command is interrupted, repeat it: it resumes from the last checkpoint.
    """
    from tadp_ray.config.load import load_personalization
    from tadp_ray.config.shipped import file_of
    from tadp_ray.hub import cached_only
    from tadp_ray.paper.personalization.run import check_result, make_job
    from tadp_ray.training.journal import final_metrics

    recipe = file_of(recipe, "personalizations")
    folder = out or Path(STORAGE, "personalized") / recipe.stem
    with cached_only() if dry_run else nullcontext():
        job = make_job(load_personalization(recipe, changes or ()), seed, folder)
    if dry_run:
        from tadp_ray.config.yaml12 import dump_yaml

        settings = dump_yaml(job.plan.model_dump(mode="json")).rstrip()
        say(settings)
        say(f"{job.plan.images.count} images found; the result will be written to {job.folder}")
        return

    from tadp_ray.sweep.personalizing import run_job
    from tadp_ray.tracking.personalization import track_personalization
    from tadp_ray.tracking.store import open_store

    store = open_store(tracking_uri)
    with track_personalization(store, job):
        metrics = final_metrics(job.folder, job.fingerprint)
        if metrics is None:
            metrics = run_job(job, address, console)
        check_result(job)
    for name, value in metrics.items():
        say(f"{name:<32}{value:>14.6g}")
    say(f"result and samples.png in {job.folder}")
