"""The command line. Every command imports what it needs when it is called, so that none pays for another."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from tadp_ray.config.schema import Scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tadp_ray.config.cell import Cell
    from tadp_ray.config.schema import Experiment
    from tadp_ray.reporting.table import Table, TableSpec
    from tadp_ray.sweep.plan import Plan
    from tadp_ray.tracking.store import Store
    from tadp_ray.tracking.sweep_run import SweepRun

app = typer.Typer(
    name="tadp-ray",
    help="What does text do to a diffusion backbone? Text-conditioned diffusion perception, swept and tabled.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
pocket = typer.Typer(help="The pocket world and its Stable Diffusion.", no_args_is_help=True)
app.add_typer(pocket, name="pocket")
caption = typer.Typer(help="Texts for images, and what a text encoder makes of them.", no_args_is_help=True)
app.add_typer(caption, name="caption")
data = typer.Typer(help="The paper's data sets: what goes where, and whether it is there.", no_args_is_help=True)
app.add_typer(data, name="data")
score = typer.Typer(
    help="Score predictions in files against targets in files, whoever made them. Every file is checked, and all that is "
    "wrong is told at once; nothing is scored in part.",
    no_args_is_help=True,
)
app.add_typer(score, name="score")
console = Console()

ExperimentFile = Annotated[Path, typer.Argument(help="An experiment, e.g. experiments/prec_recall.yaml.")]
ScaleOption = Annotated[Scale, typer.Option(help="pocket runs on a laptop; paper needs GPUs, weights and data.")]
RecipeOption = Annotated[Path | None, typer.Option(help="Another recipe file than the experiment's own.")]
ChangesOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change the recipe: key=value, e.g. data.root=PHOTOS.")
]
AddressOption = Annotated[
    str | None, typer.Option(help="Ray cluster to join.", show_default="RAY_ADDRESS, or a local one")
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        help="MLflow store: sqlite:///FILE, a server, a database.", show_default="MLFLOW_TRACKING_URI, or ./mlflow.db"
    ),
]


@contextmanager
def told() -> Iterator[None]:
    """Turn what the user must mend into a message, and an interruption into a promise."""
    # Schedulers and container engines stop a program with SIGTERM: it is to end as cleanly as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    aside = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        yield
    except ValueError as error:
        aside.print(Text.assemble(("error: ", "bold red"), str(error)))
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        aside.print("stopped; the same command goes on from here")
        raise typer.Exit(130) from None


@app.command()
def sweep(
    file: ExperimentFile,
    scale: ScaleOption = "pocket",
    recipe: RecipeOption = None,
    changes: ChangesOption = None,
    seeds: Annotated[str | None, typer.Option(help="e.g. 0,1,2.", show_default="the experiment's")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A part of the grid, e.g. caption.recall=1.0.")] = None,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; train nothing.")] = False,
) -> None:
    """Answer an experiment: train the cells that are not finished, and print the table beside the published numbers.

    Can be stopped and repeated at any time: finished cells are never trained again, interrupted ones go on from their
    last checkpoint.
    """
    with told():
        from tadp_ray.config.load import load_experiment, load_sweep
        from tadp_ray.reporting.table import TableSpec
        from tadp_ray.sweep.plan import make_plan
        from tadp_ray.tracking.store import open_store

        numbers = None if seeds is None else parse_seeds(seeds)
        plan = make_plan(file, scale, recipe=recipe, overrides=changes or (), seeds=numbers, only=only or ())
        experiment = load_experiment(file)
        spec = TableSpec.of(experiment, load_sweep(file.parent / experiment.sweep), scale, plan.settings)
        store = open_store(tracking_uri)
        if dry_run:
            show_preview(plan, store, address)
            return

        from tadp_ray.sweep.engine import run_plan

        run, whole = run_plan(plan, store, address, console)
        show_answer(store, run, spec, plan.cells, plan.folder)
        if not whole:
            raise typer.Exit(1)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, e.g. experiments/recipes/pocket_depth.yaml.")],
    changes: ChangesOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that chance decides.")] = 0,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print settings, parameters, FLOPs and memory; needs neither data nor weights."),
    ] = False,
) -> None:
    """Train one recipe, and print what it scores; goes on where it was stopped, like a sweep."""
    with told():
        if dry_run:
            from tadp_ray.config.load import load_recipe
            from tadp_ray.sweep.preview import recipe_preview

            for line in recipe_preview(load_recipe(recipe, changes or ())):
                console.print(line, highlight=False, markup=False, soft_wrap=True)
            return

        from tadp_ray.sweep.engine import run_plan
        from tadp_ray.sweep.plan import plan_one
        from tadp_ray.tracking.query import finished
        from tadp_ray.tracking.store import open_store

        plan, store = plan_one(recipe, changes or (), seed), open_store(tracking_uri)
        _, whole = run_plan(plan, store, address, console)
        (cell,) = plan.cells
        found = finished(store, [cell.fingerprint])
        if not whole:
            raise ValueError(f"the training failed; {cell.folder / 'journal.jsonl'} says why in its last line")
        for name, value in found[cell.fingerprint].metrics.items():
            if name not in ("loss", "learning_rate", "seconds_per_step"):
                console.print(f"{name:<32}{value:>14.6g}", highlight=False)
        console.print(f"run {found[cell.fingerprint].run_id}; pictures and weights in {cell.folder}", soft_wrap=True)


@app.command()
def table(
    file: ExperimentFile,
    scale: ScaleOption = "pocket",
    recipe: RecipeOption = None,
    tracking_uri: TrackingOption = None,
    storage: Annotated[Path, typer.Option(help="Folder that tables are written under.")] = Path("runs"),
) -> None:
    """Lay the newest sweep of an experiment out again, from MLflow alone."""
    with told():
        from tadp_ray.config.load import experiment_name, load_experiment
        from tadp_ray.tracking.store import open_store

        experiment = load_experiment(file)
        store = open_store(tracking_uri)
        spec, found = newest_table(store, experiment, file, recipe, scale)
        show_answer(store, found.run_id, spec, found.cells, storage / experiment_name(file, recipe) / scale)


@app.command()
def dashboard(
    tracking_uri: TrackingOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow's page over the store: sweeps, cells, curves, parameters, tables and pictures."""
    with told():
        from tadp_ray.tracking.dashboard import dashboard as serve_page
        from tadp_ray.tracking.store import open_store

        serve_page(open_store(tracking_uri), host, port, console.print)


@app.command()
def schema(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path("experiments/schemas"),
) -> None:
    """Write the JSON Schemas by which editors complete and check experiments, recipes and sweeps."""
    from tadp_ray.config.export import write_schemas

    for path in write_schemas(folder):
        console.print(path)


@caption.command("class-embeddings")
def class_embeddings(
    output: Annotated[Path, typer.Argument(help="File to write, e.g. pascal.safetensors (caption.embeddings).")],
    data: Annotated[str | None, typer.Option(help="Classes of a data set, e.g. ade20k; see `data list`.")] = None,
    classes: Annotated[str | None, typer.Option(help="Or class names apart by commas.")] = None,
    weights: Annotated[str, typer.Option(help="pocket, or a Stable Diffusion whose text encoder is asked.")] = "pocket",
    single: Annotated[
        bool, typer.Option("--single", help="'a photo of a ...' alone, not 80 sentences averaged.")
    ] = False,
) -> None:
    """One vector a class: the text encoder's state at the end mark, averaged over 80 sentences around the name."""
    with told():
        from rich.progress import track

        from tadp_ray.captions.templates import SINGLE, TEMPLATES
        from tadp_ray.data import PUBLISHED
        from tadp_ray.models.conditioning import class_embedding, write_class_embeddings
        from tadp_ray.models.diffusion import load_diffusion

        if (data is None) == (classes is None):
            raise ValueError("name the classes by --data or by --classes, one of the two")
        if data is not None and data not in PUBLISHED:
            raise ValueError(f"--data {data}: no such data set; known: {', '.join(PUBLISHED)}")
        names = PUBLISHED[data].classes if data else tuple(name.strip() for name in classes.split(","))
        diffusion = load_diffusion(weights)
        templates = [SINGLE] if single else TEMPLATES
        vectors = [
            class_embedding(diffusion.tokenizer, diffusion.text_encoder, name, templates)
            for name in track(names, "encoding", console=Console(stderr=True))
        ]
        write_class_embeddings(output, names, vectors)
        console.print(f"{output}: {len(names)} vectors of {len(vectors[0])} channels", soft_wrap=True)


@pocket.command()
def pretrain(
    folder: Annotated[Path, typer.Argument(help="Where the diffusers folder is written.")],
    images: Annotated[int, typer.Option(min=1, help="Scenes to render.")] = 32768,
    vae_steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of the VAE.")] = 2400,
    unet_steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of U-Net and text encoder.")] = 8000,
    batch: Annotated[int, typer.Option(min=1, help="U-Net images a step, over all processes.")] = 32,
    size: Annotated[int, typer.Option(min=32, max=128, help="Height and width of a scene in pixels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Of scenes, first weights and order.")] = 0,
    processes: Annotated[int, typer.Option(min=1, help="One-thread processes that share each batch.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, or cuda with --processes 1.")] = "cpu",
    tracking_uri: TrackingOption = None,
) -> None:
    """Pretrain a pocket Stable Diffusion on captioned scenes; two hours on two cores.

    Prints as it goes how much worse wrong captions are than right ones, and writes a usable model at each such gate. Can
    be stopped and repeated: the same command goes on from the last checkpoint, with the same losses.
    """
    with told():
        from tadp_ray.config.pretraining import Pretraining
        from tadp_ray.pocket.card import write_card
        from tadp_ray.pocket.pretrain import WORK
        from tadp_ray.pocket.pretrain import pretrain as run
        from tadp_ray.tracking.pretraining import told_to_mlflow
        from tadp_ray.tracking.provenance import provenance
        from tadp_ray.tracking.store import open_store
        from tadp_ray.training.reporter import final_metrics

        sizes = {"images": images, "vae_steps": vae_steps, "unet_steps": unet_steps, "size": size, "seed": seed}
        plan = Pretraining(unet_batch=batch, **sizes)
        with told_to_mlflow(open_store(tracking_uri), plan, folder / WORK):
            run(plan, folder, processes, device)
        options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in (sizes | {"batch": batch}).items())
        told_of = (
            "commit",
            "hardware.cpu",
            "hardware.cores",
            "version.torch",
            "version.diffusers",
            "version.transformers",
        )
        known = {name: fact for name in told_of if (fact := provenance().get(f"tadp.{name}"))}
        figures = final_metrics(folder / WORK) or {}
        write_card(folder, folder / WORK, plan, figures, f"tadp-ray pocket pretrain FOLDER {options}", known)


@pocket.command()
def measure(
    folder: Annotated[Path, typer.Argument(help="A folder from `pocket pretrain`.")],
) -> None:
    """Do words mean anything to the model? Wrong captions, attention maps, and what it draws."""
    with told():
        import torch

        from tadp_ray.pocket.gate import measure as run

        run(folder, torch.device("cpu"), lambda text: console.print(text, highlight=False, soft_wrap=True))


@pocket.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Where report.md, report.json and the pictures go.")] = Path(
        "runs/pocket_report"
    ),
    weights: Annotated[str, typer.Option(help="pocket, or a folder from `pocket pretrain`.")] = "pocket",
    experiments: Annotated[Path, typer.Option(help="Folder of prec_recall.yaml and the pocket_*.yaml.")] = Path(
        "experiments"
    ),
    tracking_uri: TrackingOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json instead of report.md.")] = False,
) -> None:
    """What the pocket model knows about words, and what that buys: gate, pictures, claims held against their aims, tables.

    The gate is measured anew. Claims and tables come from MLflow, as far as the experiments were run.
    """
    with told():
        import json
        from dataclasses import asdict

        from tadp_ray.models.weights import locate
        from tadp_ray.pocket.report import write_gate
        from tadp_ray.reporting.evidence import EXPERIMENTS, findings, findings_table
        from tadp_ray.reporting.render import markdown, places
        from tadp_ray.tracking.store import open_store

        aside = Console(stderr=True)
        files = {name: experiments / f"{name}.yaml" for name in EXPERIMENTS}
        store = open_store(tracking_uri)
        tables = {name: filled_table(store, file) for name, file in files.items()}
        found = findings(tables)
        figures, text = write_gate(locate(weights), folder, lambda line: aside.print(line, highlight=False))
        parts = [text, f"# What words buy\n\n{findings_table(found)}"]
        for name, table in tables.items():
            missing = f"{files[name]}: not run; python -m tadp_ray.sweep {files[name]} fills it"
            parts.append(markdown(table) if table else missing)
        facts = {
            "gate": figures,
            "claims": [asdict(finding) for finding in found],
            "tables": {name: places(table) if table else None for name, table in tables.items()},
        }
        (folder / "report.md").write_text("\n\n".join(parts) + "\n")
        (folder / "report.json").write_text(json.dumps(facts, indent=1) + "\n")
        print((folder / ("report.json" if as_json else "report.md")).read_text())


@pocket.command()
def show(
    output: Annotated[Path, typer.Argument(help="PNG to write.")] = Path("scenes.png"),
    split: Annotated[str, typer.Option(help="pretrain, train, val or test.")] = "train",
    count: Annotated[int, typer.Option(min=1, help="Scenes to draw.")] = 12,
    size: Annotated[int, typer.Option(min=32, help="Height and width of a scene in pixels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Which world.")] = 0,
) -> None:
    """Draw a contact sheet of scenes: in every style, with boxes, mask and depth."""
    with told():
        from PIL import Image

        from tadp_ray.data.scenes import Scenes
        from tadp_ray.data.sheet import contact_sheet
        from tadp_ray.data.styles import STYLES

        Image.fromarray(contact_sheet([Scenes(split, count, seed, size, style) for style in STYLES])).save(output)
        console.print(output)


@data.command("list")
def list_data(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything known of each, for programs.")] = False,
) -> None:
    """Name the paper's data sets."""
    with told():
        import json

        from tadp_ray.data import PUBLISHED
        from tadp_ray.data.check import facts

        if as_json:
            print(json.dumps([facts(name) for name in PUBLISHED], indent=1))
        for name, known in () if as_json else PUBLISHED.items():
            console.print(f"{name:20} {known.task:13} {known.title}", highlight=False, soft_wrap=True)


@data.command("check")
def check_data(
    name: Annotated[str, typer.Argument(help="A name from `data list`.")],
    root: Annotated[Path | None, typer.Option(help="Folder to check; without it, what goes where is told.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer for programs.")] = False,
) -> None:
    """Tell what a data set is and what goes where; with --root, open every file there and list all that is wrong."""
    with told():
        import json

        from tadp_ray.data.check import check, described, facts
        from tadp_ray.data.check import told as lines

        answer = facts(name) if root is None else check(name, root)
        if as_json:
            print(json.dumps(answer, indent=1))
        for line in () if as_json else described(name) if root is None else lines(answer):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        if answer.get("problems"):
            raise typer.Exit(1)


PredictionsOption = Annotated[Path, typer.Option(help="Folder of predictions; a file is named as its target.")]
TargetsOption = Annotated[Path, typer.Option(help="Folder of ground truth.")]
ClassesOption = Annotated[str, typer.Option(help="Names in label order: a,b,c or a text file with one a line.")]
UnitsOption = Annotated[float, typer.Option(min=1e-6, help="Units per metre: 1000 in millimetres, 1 in metres.")]
JSONOption = Annotated[bool, typer.Option("--json", help="Print the figures for programs.")]


@score.command("segmentation")
def score_segmentation(
    predictions: PredictionsOption,
    targets: TargetsOption,
    classes: ClassesOption,
    ignore: Annotated[
        list[int] | None, typer.Option(help="Target value that is not scored; may be repeated.", show_default="255")
    ] = None,
    reduce_zero_label: Annotated[
        bool, typer.Option("--reduce-zero-label", help="In both folders label k is class k-1, 0 none (ADE20K).")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Label maps: mean intersection over union, accuracy, and the IoU of each class, in percent over all images.

    Label maps are PNG of one channel, grey or palette, whose values are class numbers.
    """
    with told():
        from tadp_ray.scoring import score_segmentation as run

        show_scores(run(predictions, targets, parse_classes(classes), ignore or [255], reduce_zero_label), as_json)


@score.command("depth")
def score_depth(
    predictions: PredictionsOption,
    targets: TargetsOption,
    prediction_scale: UnitsOption,
    target_scale: UnitsOption,
    max_depth: Annotated[float, typer.Option(min=0.01, help="Metres; what is farther away is not scored.")] = 10.0,
    eigen_crop: Annotated[
        bool, typer.Option("--eigen-crop", help="Score only what is usual on NYUv2's images of 480x640.")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Depth maps: delta1..3, abs_rel, sq_rel, rmse, rmse_log, log10 and silog, per image, then averaged over images.

    Depth maps are PNG of 16 bits, or .npy; 0 in a target is no reading.
    """
    with told():
        from tadp_ray.scoring import score_depth as run

        show_scores(run(predictions, targets, prediction_scale, target_scale, max_depth, eigen_crop), as_json)


@score.command("detection")
def score_detection(
    predictions: Annotated[
        Path, typer.Option(help="Folder of VOC's comp4_det_test_<class>.txt, or a COCO results file (JSON).")
    ],
    targets: Annotated[Path, typer.Option(help="Folder of VOC annotations (XML), or a COCO annotation file (JSON).")],
    classes: Annotated[str, typer.Option(help="Names, as targets spell them: a,b,c or a text file with one a line.")],
    images: Annotated[
        Path | None, typer.Option(help="List of images to score, e.g. ImageSets/Main/test.txt.", show_default="all")
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Boxes: average precision in percent, as Pascal VOC counts (ap, ap50, ap75; *_voc07 in 11 points) and as COCO does.

    ap is the mean over overlaps of 0.5, 0.55 .. 0.95. Objects marked difficult are neither missed nor wrongly found.

    VOC keeps the annotations of all splits in one folder: give the split's list by --images.
    """
    with told():
        from tadp_ray.scoring import score_detection as run

        show_scores(run(predictions, targets, parse_classes(classes), images), as_json)


def newest_table(
    store: "Store", experiment: "Experiment", file: Path, recipe: Path | None, scale: Scale
) -> "tuple[TableSpec, SweepRun]":
    """The table that an experiment asks for, and the sweep that was asked for last to fill it.

    Raises:
        ValueError: the store holds no such sweep.
    """
    from tadp_ray.config.load import experiment_name, load_sweep
    from tadp_ray.reporting.table import TableSpec
    from tadp_ray.tracking.sweep_run import newest_sweep

    found = newest_sweep(store, experiment_name(file, recipe), scale)
    return TableSpec.of(experiment, load_sweep(file.parent / experiment.sweep), scale, found.settings), found


def filled_table(store: "Store", file: Path) -> "Table | None":
    """An experiment's table at pocket scale as MLflow holds it; None if it was never run."""
    from tadp_ray.config.load import load_experiment
    from tadp_ray.reporting.answer import fill

    experiment = load_experiment(file)
    try:
        spec, found = newest_table(store, experiment, file, None, "pocket")
    except ValueError:
        return None
    return fill(store, spec, found.cells)[0]


def parse_seeds(text: str) -> list[int]:
    """`0,1,2` as numbers.

    Raises:
        ValueError: something else stands there.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise ValueError(f"--seeds {text}: expected distinct whole numbers apart by commas, e.g. 0,1,2")
    return [int(part) for part in parts]


def parse_classes(text: str) -> list[str]:
    """Class names of `a,b,c`, or of a file with one a line.

    Raises:
        ValueError: it is neither, or a name occurs twice.
    """
    if "," in text:
        names = [part.strip() for part in text.split(",")]
    elif Path(text).exists() and not Path(text).is_dir():
        names = [line.strip() for line in Path(text).read_text().splitlines()]
    else:
        raise ValueError(f"--classes {text}: neither names apart by commas nor a file (one name: 'name,')")
    names = [name for name in names if name]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"--classes {text}: expected distinct names, found {names}")
    return names


def show_scores(scores: dict[str, float], as_json: bool) -> None:
    """Print figures as a table or as JSON."""
    import json

    from rich.table import Table

    if as_json:
        print(json.dumps(scores, indent=1))
        return
    table = Table("figure", "value", box=None)
    table.columns[1].justify = "right"
    for name, value in scores.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    console.print(table, highlight=False)


def show_preview(plan: "Plan", store: "Store", address: str | None) -> None:
    """Print what a sweep would do and cost."""
    from tadp_ray.sweep.cluster import cluster
    from tadp_ray.sweep.preview import preview
    from tadp_ray.tracking.query import finished, rows

    done = finished(store, [cell.fingerprint for cell in plan.cells])
    plan.check(plan.missing(done))
    earlier = [row for row in rows(store, plan.name, plan.scale) if row.status == "FINISHED"]
    with cluster(address, plan.recipe.compute) as at_once:
        for line in preview(plan, done, earlier, at_once):
            console.print(line, highlight=False, soft_wrap=True)


def show_answer(store: "Store", run: str, spec: "TableSpec", cells: "Sequence[Cell]", folder: Path) -> None:
    """Write a sweep's table and figures, show them on its page in MLflow, and print the table."""
    from tadp_ray.reporting.answer import write_answer
    from tadp_ray.reporting.render import terminal
    from tadp_ray.tracking.sweep_run import attach

    filled, files = write_answer(store, spec, cells, folder)
    attach(store, run, files)
    written = f"written to {folder}: {', '.join(path.name for path in files)}"
    console.print(terminal(filled))
    for line in (filled.caption, *filled.notes, written):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
