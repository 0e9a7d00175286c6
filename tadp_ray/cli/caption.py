"""Caption stores and class embeddings."""

import copy
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tadp_ray.cli import align, store_making, stores
from tadp_ray.cli.common import AddressOption, Commands, PluginGroup, say
from tadp_ray.config.classes import parse_classes
from tadp_ray.errors import UserError
from tadp_ray.files import is_any_of
from tadp_ray.registry import CAPTIONERS
from tadp_ray.wording import pluralized


class Captioners(PluginGroup):
    """The commands, and one with the options of `blip` for each captioner that a plug-in registers."""

    def registered(self) -> dict[str, Any]:
        """Return a command for each captioner."""
        made = {name: copy.copy(self.commands["blip"]) for name in CAPTIONERS}
        for name, command in made.items():
            command.name = name
        return made


app = Commands(cls=Captioners, help="Make, convert and inspect captions; make class embeddings.", no_args_is_help=True)


@app.command("class-embeddings")
def class_embeddings(
    output: Annotated[
        Path, typer.Argument(help="File to write, e.g. pascal.safetensors; a recipe reads it as caption.embeddings.")
    ],
    data: Annotated[
        str | None, typer.Option(help="Data set whose classes to use, e.g. ade20k (see `data list`).")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Class names, instead of --data: a,b,c or a text file with one name per line.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Model whose text encoder to use: pocket, a folder or a hub id.")
    ] = "pocket",
    single: Annotated[
        bool,
        typer.Option(
            "--single", help="Use only the sentence 'a photo of a ...' instead of averaging over 80 sentences."
        ),
    ] = False,
) -> None:
    """Write one embedding per class.

    It is the state of the text encoder at the EOS token, averaged over 80 sentence templates.
    """
    from rich.progress import track

    from tadp_ray.backbones.stable_diffusion.load import load_diffusion
    from tadp_ray.captions.templates import SINGLE, TEMPLATES
    from tadp_ray.conditioning.text_encoder import class_embedding, write_class_embeddings
    from tadp_ray.data.check import find

    if data is not None and classes is None:
        names = find(data).classes
    elif classes is not None and data is None:
        names = parse_classes(classes)
    else:
        raise UserError("name the classes with either --data or --classes")
    if output.suffix != ".safetensors":
        raise UserError(f"{output}: is a .safetensors file; let its name end in that, e.g. {output.stem}.safetensors")
    read = [Path(name) for name in (classes, weights) if name and os.path.isfile(name)]
    if is_any_of(output, (*read, *Path(weights).glob("*/*.safetensors"))):
        raise UserError(f"{output}: is a file that is read, which would be lost; name another file")
    diffusion = load_diffusion(weights)
    templates = [SINGLE] if single else TEMPLATES
    vectors = [
        class_embedding(diffusion.tokenizer, diffusion.text_encoder, name, templates)
        for name in track(names, "encoding", console=Console(stderr=True))
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    write_class_embeddings(output, names, vectors)
    say(f"{output}: {pluralized(len(names), 'vectors')} of {len(vectors[0])} channels")


for part in (store_making, stores, align):
    app.add_typer(part.app)


@app.command("blip")
def describe(
    ctx: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            help="Images: a name from `data list` with --root, a recipe for photographs, a folder, or 'a/*.jpg'."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Caption store to write, e.g. blip40.jsonl; a recipe reads it as caption.store.")
    ],
    root: Annotated[
        Path | None, typer.Option(help="Folder of the named data set.", show_default="data.root of the recipe")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split to caption: train or val.", show_default="all")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Image-to-text model: a folder or a hub id.", show_default="Salesforce/blip2-opt-2.7b for blip"
        ),
    ] = None,
    min_tokens: Annotated[
        int, typer.Option(min=0, help="Minimum length of a caption, in tokens (paper: 0, 20, 40).")
    ] = 0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Maximum length of a caption, in tokens.")] = 77,
    batch: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 16,
    actors: Annotated[
        int, typer.Option(min=1, help="Captioners that run in parallel, each with its own copy of the model.")
    ] = 1,
    cpus: Annotated[int, typer.Option(min=1, help="CPU cores per captioner.")] = 1,
    gpus: Annotated[
        float, typer.Option(min=0, help="GPUs per captioner. If it is above 0, the model runs in float16.")
    ] = 0,
    cut: Annotated[
        bool,
        typer.Option(
            "--cut-last-character", help="Remove the last character of each caption, as the published code did."
        ),
    ] = False,
    address: AddressOption = None,
) -> None:
    """Caption every image of a data set.

    If the command is interrupted, repeat it to resume: it skips images that have a caption.
    """
    from tadp_ray.captions.captioner import CaptionerSettings
    from tadp_ray.captions.store import check_out
    from tadp_ray.cli.inputs import find_photographs
    from tadp_ray.sweep.captioning import Actors, caption_photographs

    if min_tokens > max_tokens:
        raise UserError(f"--min-tokens {min_tokens}: is above --max-tokens {max_tokens}; lower it")
    check_out(out)
    images = find_photographs(data, root, split)
    captioner = ctx.command.name
    assert captioner is not None  # of the commands above
    model = model or CAPTIONERS[captioner].model
    source = str(Path(model).absolute()) if Path(model).is_dir() else model
    dtype = "float16" if gpus else "float32"
    settings = CaptionerSettings(captioner, source, min_tokens, max_tokens, batch, dtype, cut)
    failed = caption_photographs(images, settings, out, Actors(actors, cpus, gpus), address)
    say(f"{out}: {len(images) - len(failed)} of {pluralized(len(images), 'images')} captioned")
    for name, error in failed.items():
        say(f"  {name} failed: {error}")
    if failed:
        raise typer.Exit(1)
