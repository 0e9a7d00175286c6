"""The command line. Every command imports what it needs when it is called, so that none pays for another."""

import typer

from tadp_ray.cli import analyze, caption, data, personalize, picture, pocket, score, sweeps, tracking

app = typer.Typer(
    name="tadp-ray",
    help="What does text do to a diffusion backbone? Text-conditioned diffusion perception, swept and tabled.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    sweeps.sweep,
    sweeps.train,
    sweeps.search,
    sweeps.predict,
    sweeps.table,
    sweeps.report,
    sweeps.dashboard,
    sweeps.schema,
):
    app.command()(command)
app.command()(personalize.personalize)
app.add_typer(pocket.app, name="pocket")
app.add_typer(caption.app, name="caption")
app.add_typer(analyze.app, name="analyze")
app.add_typer(data.app, name="data")
app.add_typer(score.app, name="score")
app.add_typer(tracking.app, name="tracking")
app.add_typer(picture.app, name="picture")
