"""Texts for images, and what a text encoder makes of them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tadp_ray.cli import stores
from tadp_ray.cli.words import console, parse_classes, told

app = typer.Typer(help="Texts for images, and what a text encoder makes of them.", no_args_is_help=True)


@app.command("class-embeddings")
def class_embeddings(
    output: Annotated[Path, typer.Argument(help="File to write, e.g. pascal.safetensors (caption.embeddings).")],
    data: Annotated[str | None, typer.Option(help="Classes of a data set, e.g. ade20k; see `data list`.")] = None,
    classes: Annotated[str | None, typer.Option(help="Or names: a,b,c or a text file with one a line.")] = None,
    weights: Annotated[str, typer.Option(help="pocket, or a Stable Diffusion whose text encoder is asked.")] = "pocket",
    single: Annotated[
        bool, typer.Option("--single", help="'a photo of a ...' alone, not 80 sentences averaged.")
    ] = False,
) -> None:
    """One vector a class: the text encoder's state at the end mark, averaged over 80 sentences around the name."""
    with told():
        from rich.progress import track

        from tadp_ray.captions.templates import SINGLE, TEMPLATES
        from tadp_ray.data.check import find
        from tadp_ray.models.conditioning import class_embedding, write_class_embeddings
        from tadp_ray.models.diffusion import load_diffusion

        if (data is None) == (classes is None):
            raise ValueError("name the classes by --data or by --classes, one of the two")
        names = find(data).classes if data else parse_classes(classes)
        diffusion = load_diffusion(weights)
        templates = [SINGLE] if single else TEMPLATES
        vectors = [
            class_embedding(diffusion.tokenizer, diffusion.text_encoder, name, templates)
            for name in track(names, "encoding", console=Console(stderr=True))
        ]
        write_class_embeddings(output, names, vectors)
        console.print(f"{output}: {len(names)} vectors of {len(vectors[0])} channels", soft_wrap=True)


# import, oracle, degrade, show, stats, check, diff, align
app.add_typer(stores.app)
