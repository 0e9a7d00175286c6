"""Analyses of what the text does inside the network."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tadp_ray.cli.common import ChangesOption, Commands, TrackingOption, names_of, say
from tadp_ray.cli.retype import typed
from tadp_ray.config.vocabulary import Scale
from tadp_ray.errors import UserError
from tadp_ray.layout import STORAGE
from tadp_ray.wording import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from tadp_ray.config.analysis import Analysis
    from tadp_ray.config.claims import Verdict
    from tadp_ray.paper.analysis.finding import Outcome

app = Commands(help="Draw attention maps of words; run the paper's analyses.", no_args_is_help=True)


@app.command()
def attention(
    image: Annotated[Path, typer.Argument(help="Image file of any size.")],
    prompt: Annotated[str, typer.Argument(help='Prompt for the model, e.g. "a cat and a dog".')],
    out: Annotated[
        Path, typer.Option(help="Output folder for maps.png, maps.pdf, maps.safetensors and maps.json.")
    ] = Path(STORAGE, "attention"),
    word: Annotated[
        list[str] | None,
        typer.Option(help="Word or phrase to show. Repeatable.", show_default="each word of the prompt"),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(
            help="WORD=PICTURE: score the map of the word against a mask that is black outside the object. Repeatable."
        ),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Model to inspect: pocket, a diffusers folder, a hub id or a single file.")
    ] = "pocket",
    backbone: Annotated[
        str, typer.Option(help="Model family of --weights: stable_diffusion, stable_diffusion_xl or pixart.")
    ] = "stable_diffusion",
    timestep: Annotated[
        int, typer.Option(min=0, max=999, help="Timestep that the denoiser receives. No noise is added.")
    ] = 1,
    pixels: Annotated[
        Literal["signed", "unit"],
        typer.Option(
            help="Pixel range of the VAE's input. signed: [-1, 1], as in its training; unit: [0, 1], as in the published tool."
        ),
    ] = "signed",
) -> None:
    """Draw the cross-attention maps of each word.

    The maps are drawn over the image, and for every layer and head. The map of a word is the mean over its tokens, all heads and
    all layers. Diffuseness is the entropy of a map divided by the entropy of a uniform map. If it is 0.998 or more, the map
    counts as uniform, and the word is greyed out. With --mask, the command also says whether the maximum of the map lies on the
    object, and prints the average precision of the map as a pixel-wise score for the object.
    """
    from tadp_ray.backbones.families import open_frozen
    from tadp_ray.conditioning.tokenizer import words_in
    from tadp_ray.data.images import read_image
    from tadp_ray.files import write_json
    from tadp_ray.paper.analysis.attention import attend
    from tadp_ray.paper.analysis.sheets import attention_sheet
    from tadp_ray.pictures.files import write_both
    from tadp_ray.training.checkpoint import write_tensors

    picture = read_image(image)
    truths = read_masks(mask or (), picture.shape[:2])
    words = dict.fromkeys([*(word or words_in(prompt)), *truths])
    result = attend(open_frozen(backbone, weights), picture, prompt, tuple(words), timestep, pixels)
    figures = result.figures(truths)
    facts = {
        "prompt": prompt,
        "backbone": backbone,
        "weights": weights,
        "timestep": timestep,
        "pixels": pixels,
        "tokens": result.tokens,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(out / "maps.safetensors", {name: maps[0] for name, maps in result.layers.items()}, facts)
    write_both(attention_sheet(result), out / "maps.png")
    write_json(out / "maps.json", {**facts, "image": str(image), "words": figures})
    for name, values in figures.items():
        say(word_line(name, values))
    say(f"written to {out}: maps.png, maps.pdf, maps.safetensors, maps.json")


def read_masks(texts: "Sequence[str]", size: tuple[int, int]) -> "dict[str, np.ndarray]":
    """Return the pixels of objects by word, from `WORD=PICTURE` texts; pictures have the given (height, width).

    Raises:
        UserError: a text has another form, or a picture cannot be read or does not fit.
    """
    from tadp_ray.paper.analysis.attention import read_truth

    masks = {}
    for text in texts:
        word, sign, path = text.partition("=")
        if not sign:
            raise UserError(f"--mask {text}: expected WORD=PICTURE, e.g. dog=dog.png")
        masks[word] = read_truth(Path(path), size)
    return masks


def word_line(word: str, figures: dict[str, Any]) -> str:
    """Return the metrics of a word's map in a line."""
    highest = "uniform" if figures["uniform"] else f"maximum at {figures['highest']}"
    line = f"{word:<20} diffuseness {figures['diffuseness']['all layers']:.4f}  {highest}"
    if "localisation" not in figures:
        return line
    score = figures["localisation"]["all layers"]
    where = "on" if score["pointing"] else "beside"
    return f"{line}, {where} the object; average precision {score['average_precision']:.3f}"


@app.command()
def run(
    file: Annotated[
        Path,
        typer.Argument(
            help="Analysis: a file or a shipped name, e.g. copy_paste.",
            autocompletion=names_of("analyses"),
        ),
    ],
    scale: Annotated[Scale, typer.Option(help="pocket runs on a laptop; paper needs weights and data.")] = "pocket",
    changes: ChangesOption = None,
    storage: Annotated[Path, typer.Option(help="Parent folder of the output folder.")] = Path(STORAGE, "analyses"),
    tracking_uri: TrackingOption = None,
) -> None:
    """Run an analysis and test its claims.

    The command writes pictures and numbers. It trains nothing: it looks up the trained models that it needs in MLflow. If one is
    missing, it prints the command that trains it.
    """
    import os

    from tadp_ray.config.load import load_analysis, load_recipe_values, validate
    from tadp_ray.config.recipe import Recipe
    from tadp_ray.config.shipped import file_of
    from tadp_ray.tracking.store import open_store

    file = file_of(file, "analyses")
    analysis = load_analysis(file, scale)
    if scale not in analysis.recipes:
        raise UserError(f"{file}: recipes: none for --scale {scale}; it has {', '.join(analysis.recipes)}")
    recipe_file = Path(os.path.normpath(file_of(analysis.recipes[scale], "recipes", file)))
    values = load_recipe_values(recipe_file, changes or ())
    recipe = validate(Recipe, *values)
    store = open_store(tracking_uri)

    from tadp_ray.paper.analysis.run import analyse, asked, check
    from tadp_ray.reporting.claims import judge_measures
    from tadp_ray.sweep.trained import find_trained
    from tadp_ray.tracking.findings import log_finding

    trained = {
        name: find_trained(store, recipe_file, values, changes or (), keys, analysis.seeds)
        for name, keys in asked(analysis, recipe).items()
    }
    check(analysis, recipe, trained)
    name = file.stem if scale == "pocket" else f"{file.stem}-{scale}"
    outcome = analyse(analysis, recipe, trained, storage / name)
    verdicts = judge_measures(analysis.claims, outcome.measured)
    settings = {"recipe": recipe_file.stem, "changes": list(changes or ())}
    log_finding(store, storage / name, facts_of(name, analysis, settings, outcome, verdicts), outcome.pictures)
    width = max(map(len, outcome.numbers))
    for key, value in outcome.numbers.items():
        say(f"{key:<{width}}{shown(value):>12}")
    for line in (*(own.sentence for own in verdicts), *outcome.notes):
        say(line)
    say(f"written to {storage / name}: finding.json, {', '.join(outcome.pictures)}")


def facts_of(
    name: str, analysis: "Analysis", settings: dict[str, Any], outcome: "Outcome", verdicts: "Sequence[Verdict]"
) -> dict[str, Any]:
    """Return what is logged of an analysis (`log_finding`); `settings` are those of its recipe."""
    return {
        "name": name,
        "question": analysis.question,
        "figure_of_paper": analysis.figure,
        "command": typed(),
        "settings": {**settings, "seeds": list(analysis.seeds), **analysis.spec.model_dump(mode="json")},
        "numbers": dict(outcome.numbers),
        "claims": [own.model_dump() for own in verdicts],
        "notes": list(outcome.notes),
    }
