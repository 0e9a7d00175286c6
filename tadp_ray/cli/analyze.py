"""What words do inside the network."""

from pathlib import Path
from typing import Annotated

import typer

from tadp_ray.cli.common import ChangesOption, Commands, TrackingOption, exit_on_user_error, names_of, say
from tadp_ray.config.vocabulary import Scale
from tadp_ray.errors import UserError
from tadp_ray.layout import STORAGE

app = Commands(help="What words do inside the network.", no_args_is_help=True)


@app.command()
def attention(
    image: Annotated[Path, typer.Argument(help="A picture of any size.")],
    prompt: Annotated[str, typer.Argument(help='What the model is told, e.g. "a bird and a dog".')],
    out: Annotated[Path, typer.Option(help="Folder for maps.png, maps.pdf, maps.safetensors, maps.json.")] = Path(
        STORAGE, "attention"
    ),
    word: Annotated[
        list[str] | None,
        typer.Option(help="Word to tell of, or several in a row.", show_default="each of the prompt's"),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(help="WORD=PICTURE, black where the thing is not: is the word's map on it?"),
    ] = None,
    weights: Annotated[str, typer.Option(help="pocket, a diffusers folder, a hub id, or a single file.")] = "pocket",
    timestep: Annotated[int, typer.Option(min=0, max=999, help="What the U-Net is told; no noise is added.")] = 1,
) -> None:
    """Show where the model looks for each word: over the picture, and as maps of every layer and head.

    A word's map is the mean over its tokens, all heads and all sixteen layers. Diffuseness is the map's entropy over that of
    an even map; from 0.998 on a map says nothing, and its word is greyed. With --mask: is the highest place on the thing, and
    the average precision of the map as a score of its pixels.
    """
    with exit_on_user_error():
        from tadp_ray.backbones.stable_diffusion.load import load_diffusion
        from tadp_ray.conditioning.tokenizer import words_in
        from tadp_ray.data.images import read_image
        from tadp_ray.files import write_json
        from tadp_ray.paper.analysis.attention import attend, read_truth
        from tadp_ray.paper.analysis.sheets import attention_sheet
        from tadp_ray.pictures.files import write_both
        from tadp_ray.training.checkpoint import write_tensors

        picture = read_image(image)
        truths = {}
        for text in mask or ():
            name, sign, path = text.partition("=")
            if not sign:
                raise UserError(f"--mask {text}: expected WORD=PICTURE, e.g. dog=dog.png")
            truths[name] = read_truth(Path(path), picture.shape[:2])
        words = dict.fromkeys([*(word or words_in(prompt)), *truths])
        found = attend(load_diffusion(weights), picture, prompt, tuple(words), timestep)
        figures = found.figures(truths)
        facts = {"prompt": prompt, "weights": weights, "timestep": timestep, "tokens": found.tokens}
        out.mkdir(parents=True, exist_ok=True)
        write_tensors(out / "maps.safetensors", {name: maps[0] for name, maps in found.layers.items()}, facts)
        write_both(attention_sheet(found), out / "maps.png")
        write_json(out / "maps.json", {**facts, "image": str(image), "words": figures})
        for name, told_of in figures.items():
            where = "even, says no place" if told_of["even"] else f"highest at {told_of['highest']}"
            line = f"{name:<20} diffuseness {told_of['diffuseness']['all layers']:.4f}  {where}"
            if place := told_of.get("localisation"):
                whole, where = place["all layers"], "on" if place["all layers"]["pointing"] else "beside"
                line += f", {where} the thing; average precision {whole['average_precision']:.3f}"
            say(line)
        say(f"written to {out}: maps.png, maps.pdf, maps.safetensors, maps.json")


@app.command()
def run(
    file: Annotated[
        Path,
        typer.Argument(
            help="An analysis: a file, or the name of a shipped one, e.g. copy_paste.",
            autocompletion=names_of("analyses"),
        ),
    ],
    scale: Annotated[Scale, typer.Option(help="pocket runs on a laptop; paper needs weights and data.")] = "pocket",
    changes: ChangesOption = None,
    storage: Annotated[Path, typer.Option(help="Folder that findings are written under.")] = Path(STORAGE, "analyses"),
    tracking_uri: TrackingOption = None,
) -> None:
    """Answer an analysis: pictures, numbers, and whether they bear out what the paper says.

    Trained models that it needs are found in MLflow, whichever sweep trained them; what trains a missing one is said.
    """
    with exit_on_user_error():
        import os
        import shlex
        import sys

        from tadp_ray.addresses import masked
        from tadp_ray.config.load import load_analysis, load_recipe_values, validate
        from tadp_ray.config.schema import Recipe
        from tadp_ray.config.shipped import file_of
        from tadp_ray.tracking.store import open_store

        file = file_of(file, "analyses")
        analysis = load_analysis(file, scale)
        if scale not in analysis.recipes:
            raise UserError(f"{file}: recipes: none for --scale {scale}; it has {', '.join(analysis.recipes)}")
        place = Path(os.path.normpath(file_of(analysis.recipes[scale], "recipes", file)))
        values = load_recipe_values(place, changes or ())
        recipe = validate(Recipe, *values)
        store = open_store(tracking_uri)

        from tadp_ray.paper.analysis.run import analyse, asked, check
        from tadp_ray.reporting.claims import judge_measures
        from tadp_ray.sweep.trained import find_trained
        from tadp_ray.tracking.findings import keep_finding

        found = {
            name: find_trained(store, place, values, changes or (), keys, analysis.seeds)
            for name, keys in asked(analysis, recipe).items()
        }
        check(analysis, recipe, found)
        name = file.stem if scale == "pocket" else f"{file.stem}-{scale}"
        settings = {
            "recipe": place.stem,
            "changes": list(changes or ()),
            "seeds": list(analysis.seeds),
            **analysis.look.model_dump(mode="json"),
        }
        outcome = analyse(analysis, recipe, found, storage / name)
        judged = judge_measures(analysis.claims, outcome.measured)
        facts = {
            "name": name,
            "question": analysis.question,
            "figure_of_paper": analysis.figure,
            "command": shlex.join(["tadp-ray", *map(masked, sys.argv[1:])]),
            "settings": settings,
            "numbers": dict(outcome.numbers),
            "claims": [own.model_dump() for own in judged],
            "notes": list(outcome.notes),
        }
        keep_finding(store, storage / name, facts, outcome.pictures)
        width = max(map(len, outcome.numbers))
        for key, value in outcome.numbers.items():
            say(f"{key:<{width}}{value:>12.4g}")
        for line in (*(own.sentence for own in judged), *outcome.notes):
            say(line)
        say(f"written to {storage / name}: finding.json, {', '.join(outcome.pictures)}")
