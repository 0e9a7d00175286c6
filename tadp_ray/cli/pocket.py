"""The pocket world and its Stable Diffusion."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer
from pydantic import ValidationError
from rich.console import Console

from tadp_ray.cli.common import Commands, JSONOption, LogOption, TrackingOption, say, store_to_log
from tadp_ray.config.pretraining import ImageEncoderTraining, Pretraining
from tadp_ray.config.vocabulary import SEED_MAX, Denoiser
from tadp_ray.errors import UserError, said_as
from tadp_ray.layout import ATTENTION, DRAWINGS, STORAGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tadp_ray.config.claims import Verdict

Plan = TypeVar("Plan", Pretraining, ImageEncoderTraining)
app = Commands(help="Pretrain, evaluate and show the pocket world and its models.", no_args_is_help=True)


@app.command()
def pretrain(
    folder: Annotated[Path, typer.Argument(help="Output folder, in the format of diffusers.")],
    images: Annotated[int, typer.Option(min=1, help="Number of scenes to render.")] = 24576,
    backbone: Annotated[
        Denoiser,
        typer.Option(help="unet: train a Stable Diffusion; dit: train a PixArt, whose denoiser is a transformer."),
    ] = "unet",
    vae_steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of the VAE.")] = 3000,
    unet_steps: Annotated[
        int, typer.Option(min=1, help="Optimizer steps of the U-Net or DiT and of the text encoder.")
    ] = 8500,
    batch: Annotated[int, typer.Option(min=1, help="Batch size of the U-Net or DiT, over all processes.")] = 32,
    size: Annotated[int, typer.Option(help="Height and width of a scene in pixels: 32, 64, 96 or 128.")] = 64,
    seed: Annotated[
        int,
        typer.Option(min=0, help="Random seed of the scenes, the initial weights and the sampling order."),
    ] = 0,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Model from which the training starts: pocket, or the folder of a pocket model.",
            show_default="random weights",
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Number of single-threaded processes, which share each batch.")
    ] = 2,
    device: Annotated[str, typer.Option(help="Device: cpu, or cuda with --processes 1.")] = "cpu",
    tracking_uri: TrackingOption = None,
) -> None:
    """Pretrain a pocket model on captioned scenes.

    A Stable Diffusion takes two hours on two cores with AVX-512. Each evaluation prints by how much wrong captions raise the
    loss, and writes a usable model. If the command is interrupted, repeat it: it resumes from the last checkpoint, with the same
    losses.

    With --start, the VAE of that model is kept, and its denoiser and text encoder are trained further. Give a different --seed,
    so that the scenes are new. If that model has another kind of denoiser (--backbone), its text encoder and its classifier of
    drawings are kept as well, and the denoiser starts from random weights.
    """
    from tadp_ray.backbones.families import generator_family
    from tadp_ray.layout import PRETRAINING_FOLDER
    from tadp_ray.paper.pocket.card import CARD_FILE, write_card
    from tadp_ray.paper.pocket.pretrain import check_folder
    from tadp_ray.paper.pocket.pretrain import pretrain as run
    from tadp_ray.tracking.pretraining import track_pretraining
    from tadp_ray.tracking.store import open_store
    from tadp_ray.training.journal import final_metrics
    from tadp_ray.training.transfer import usable

    if usable(device).type != "cpu" and processes > 1:
        raise UserError(f"--device {device}: is for one process, not {processes}; add --processes 1")
    sizes = {"images": images, "vae_steps": vae_steps, "unet_steps": unet_steps, "size": size, "seed": seed}
    digest = generator_family(start).digest(str(start)) if start else ""
    plan = planned(Pretraining, backbone=backbone, unet_batch=batch, start=digest, **sizes)
    # Before the plan is written into the folder, and MLflow hears of it.
    check_folder(plan, folder, start)
    work = folder / PRETRAINING_FOLDER
    described = (folder / CARD_FILE).is_file() and final_metrics(work, plan.fingerprint)
    with track_pretraining(open_store(tracking_uri), plan, work):
        run(plan, folder, processes, device, start)
    if described:
        return
    figures = final_metrics(work, plan.fingerprint) or {}
    options = {"backbone": backbone} | sizes | {"batch": batch} | ({"start": start} if start else {})
    write_card(folder, work, plan, figures, judged(figures), options)


@app.command()
def image_encoder(
    folder: Annotated[Path, typer.Argument(help="Output folder, in the format of transformers.")],
    images: Annotated[int, typer.Option(min=2, help="Number of scenes to render.")] = 24576,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 3000,
    batch: Annotated[int, typer.Option(min=2, help="Images per step.")] = 128,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=SEED_MAX, help="Random seed of the scenes, the initial weights and the sampling order."
        ),
    ] = 1,
    weights: Annotated[str, typer.Option(help="Model: pocket, or a folder from `pocket pretrain`.")] = "pocket",
    tracking_uri: TrackingOption = None,
) -> None:
    """Train an image encoder for `model.context: image`.

    The encoder is a CLIP of the pocket world, trained against the frozen text encoder of a pocket model. If the command is
    interrupted, repeat it: it resumes from the last checkpoint, with the same losses.
    """
    from tadp_ray.backbones.latent.weights import weights_digest
    from tadp_ray.layout import PRETRAINING_FOLDER
    from tadp_ray.paper.pocket.image_encoder import check_folder, train_image_encoder, write_section
    from tadp_ray.tracking.pretraining import track_pretraining
    from tadp_ray.tracking.store import open_store

    settings = {"images": images, "steps": steps, "batch": batch, "seed": seed}
    plan = planned(ImageEncoderTraining, text=weights_digest(weights), **settings)
    # Before the plan is written into the folder, and MLflow hears of it.
    check_folder(plan, folder)
    with track_pretraining(open_store(tracking_uri), plan, folder / PRETRAINING_FOLDER):
        metrics = train_image_encoder(plan, folder, weights)
    write_section(folder, plan, weights, metrics)


def planned(kind: type[Plan], **settings: Any) -> Plan:
    """Return the settings of a training.

    Raises:
        UserError: some are invalid; names their options, which are called like them.
    """
    try:
        return kind(**settings)
    except ValidationError as error:
        rules = [(item["loc"][0], item["input"], item["msg"].removeprefix("Value error, ")) for item in error.errors()]
        raise UserError("\n".join(f"--{name} {value}: {rule}" for name, value, rule in rules)) from None


@app.command()
def measure(
    folder: Annotated[Path, typer.Argument(help="Folder from `pocket pretrain`.")],
) -> None:
    """Measure whether a pocket model understands words.

    The measures are losses with wrong captions, attention maps and generated images.
    """
    import torch

    from tadp_ray.paper.pocket.gate import measure as run

    with said_as({"with --set model.weights=FOLDER": "as FOLDER", "model.weights=": "FOLDER "}):
        run(folder, torch.device("cpu"), say)


@app.command()
def style(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders from `personalize`, of styles learned from scenes (images.kind: scenes)."),
    ],
) -> None:
    """Measure whether a personalized model draws its style.

    A style classifier compares images of the personalized model with images of the original model. The command prints how often
    the image of the personalized model scores higher for the style, and writes style.png into each folder.
    """
    from tadp_ray.paper.pocket.style import measure_style

    columns = "{:>12}{:>12}{:>14}{:>10}{:>10}   {}"
    for place, folder in enumerate(folders):
        result = measure_style(folder, folder / "style.png")
        if not place:
            # Not before, since what cannot be measured is an error.
            say(columns.format("preferred", "predicted", "probability", "before", "accuracy", "folder (in %)"))
        figures = (
            f"{result[name]:.1f}" for name in ("preferred", "named", "probability", "probability_before", "judge")
        )
        say(columns.format(*figures, folder))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Output folder for report.md, report.json and the pictures.")] = Path(
        STORAGE, "pocket_report"
    ),
    weights: Annotated[str, typer.Option(help="Model: pocket, or a folder from `pocket pretrain`.")] = "pocket",
    log: LogOption = False,
    tracking_uri: TrackingOption = None,
    as_json: JSONOption = False,
) -> None:
    """Report how well a pocket model understands words.

    The report compares the measures with their aims, and contains pictures. For the effect of text on models that are trained for
    a task, see `tadp-ray report`.
    """
    from tadp_ray.backbones.families import generator_family
    from tadp_ray.files import read_text, write_json, write_text
    from tadp_ray.paper.pocket.report import gate_text, write_gate
    from tadp_ray.tracking.findings import log_finding

    store = store_to_log(log, tracking_uri)
    stderr = Console(stderr=True, markup=False, highlight=False, emoji=False)
    figures = write_gate(generator_family(weights).locate(weights), folder, stderr.print)
    verdicts = judged(figures)
    write_text(folder / "report.md", f"{gate_text(figures, verdicts)}\n")
    write_json(folder / "report.json", {"gate": figures})
    if store:
        facts = {
            "name": "pocket_gate",
            "question": "Does the pocket model know words?",
            "command": f"tadp-ray pocket report --weights {shlex.quote(str(weights))}",
            "settings": f"weights {weights}",
            "numbers": figures,
            "claims": [own.model_dump() for own in verdicts],
        }
        log_finding(store, folder, facts, (DRAWINGS, ATTENTION))
    print(read_text(folder / ("report.json" if as_json else "report.md")))


def judged(figures: "Mapping[str, float]") -> "list[Verdict]":
    """Return the verdicts on a pocket model's measures."""
    from tadp_ray.config.claims import Measured
    from tadp_ray.paper.pocket.report import AIMS
    from tadp_ray.reporting.claims import judge_measures

    return judge_measures(AIMS, {name: Measured(value) for name, value in figures.items()})


@app.command()
def show(
    output: Annotated[Path, typer.Argument(help="PNG file to write.")] = Path("scenes.png"),
    split: Annotated[str, typer.Option(help="Split: pretrain, train, val or test.")] = "train",
    count: Annotated[int, typer.Option(min=1, help="Number of scenes to draw.")] = 12,
    size: Annotated[int, typer.Option(min=32, help="Height and width of a scene in pixels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the scenes.")] = 0,
) -> None:
    """Draw a contact sheet of scenes in every style, with boxes, masks and depth."""
    from PIL import Image

    from tadp_ray.data.scenes import Scenes, Split
    from tadp_ray.data.styles import STYLES
    from tadp_ray.files import drafted
    from tadp_ray.pictures.sheet import contact_sheet

    if output.is_dir():
        raise UserError(f"{output}: is a folder; name a PNG to write, e.g. {output / 'scenes.png'}")
    output.parent.mkdir(parents=True, exist_ok=True)
    with drafted(output) as draft:
        named = cast("Split", split)  # scenes refuse any other
        sheet = contact_sheet([Scenes(named, count, seed, size, style) for style in STYLES])
        Image.fromarray(sheet).save(draft, "PNG")
    say(output)
