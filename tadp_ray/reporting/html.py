"""Renders the HTML templates in `templates/`; all values are escaped."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def templates() -> Environment:
    """Return the environment of this package's templates."""
    return Environment(
        loader=PackageLoader("tadp_ray.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render_page(template: str, **values: object) -> str:
    """Return a standalone HTML page."""
    return templates().get_template(template).render(values)
