"""Systems side by side where they differ most, or one beside the truth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tadp_ray.cli.common import Commands, LogOption, TrackingOption, say, store_to_log
from tadp_ray.cli.retype import typed
from tadp_ray.cli.task_commands import task_group
from tadp_ray.wording import pluralized

if TYPE_CHECKING:
    from tadp_ray.pictures.comparison import Comparison
    from tadp_ray.tracking.store import Store

OutArgument = Annotated[
    Path,
    typer.Argument(
        help="Output folder for better.{png,pdf} and worse.{png,pdf}, or examples.{png,pdf}, and choice.json."
    ),
]
CountOption = Annotated[int, typer.Option(min=1, help="Number of images per picture.")]


def draw(
    comparison: "Comparison",
    out: OutArgument,
    *,
    count: CountOption = 4,
    log: LogOption = False,
    tracking_uri: TrackingOption = None,
) -> None:
    """Write the pictures, say what they show and why, and log them if asked to."""
    from tadp_ray.pictures.choose import rule
    from tadp_ray.pictures.panels import write_comparison
    from tadp_ray.tracking.findings import finding_name

    store = store_to_log(log, tracking_uri)
    name = finding_name(out) if store else ""
    chosen, files = write_comparison(comparison, out, count)
    for direction, rows in chosen.items():
        say(f"{direction}: {rule(comparison.score, direction)}")
        for own in rows:
            pairs = zip(comparison.systems, comparison.scores[:, own.number], strict=True)
            scores = ", ".join(f"{name} {comparison.score.shown(value)}" for name, value in pairs)
            say(f"  {comparison.ids[own.number]}: {scores}")
        if not rows:
            say(f"  no image in which {comparison.systems[0]} is {direction}")
    say(f"written to {out}: {', '.join(path.name for path in files)}")
    if store:
        run = log_pictures(store, comparison, out, name, [path.name for path in files])
        say(f"logged as {name}: run {run}")


def log_pictures(store: "Store", comparison: "Comparison", out: Path, name: str, files: list[str]) -> str:
    """Log the pictures of a folder under a name; return the id of the run."""
    import numpy as np

    from tadp_ray.pictures.choose import directions, rule
    from tadp_ray.tracking.findings import log_finding

    several = len(comparison.systems) > 1
    # An image may have a score of one system alone: where nothing is to be found, something wrong was.
    scored = comparison.scores[:, np.isfinite(comparison.scores).all(0)]
    facts = {
        "name": name,
        "question": f"Where do {' and '.join(comparison.systems)} differ most?"
        if several
        else f"What does {comparison.systems[0]} predict?",
        "figure_of_paper": "Figures S7 and S14 to S20" if several else "Figures S11 to S13",
        "command": typed(),
        "settings": rule(comparison.score, directions(len(comparison.systems))[0]),
        "numbers": {
            f"{system}: {comparison.score.meaning}, mean over {pluralized(scored.shape[1], 'images')}": mean
            for system, mean in zip(comparison.systems, scored.mean(1).tolist(), strict=True)
        },
    }
    return log_finding(store, out, facts, files)


app = Commands(
    cls=task_group("picture", draw),
    help="Draw the predictions of several systems side by side. The pictures (PNG and PDF) show the images on which the first "
    "system is better or worse than the others by the largest margins, with the ground truth and all predictions. The command "
    "prints the rule by which it selects the images. For a single system, it draws examples. It reads the same files as `score`; "
    "`predict` writes them for a trained cell.",
    no_args_is_help=True,
)
