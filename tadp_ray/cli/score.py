"""Scores of predictions in files, whoever made them."""

from tadp_ray.cli.common import Commands, JSONOption, console, show
from tadp_ray.cli.task_commands import task_group


def show_scores(scores: dict[str, float], *, as_json: JSONOption = False) -> None:
    """Print metrics as a table or as JSON."""
    from rich.table import Table

    if as_json:
        return show(scores, (), as_json)
    table = Table("metric", "value", box=None)
    table.columns[1].justify = "right"
    for name, value in scores.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    console.print(table)


app = Commands(
    cls=task_group("score", show_scores),
    help="Score prediction files of any system against target files. All files are checked first, and all errors are reported "
    "together. If there is an error, nothing is scored.",
    no_args_is_help=True,
)
