"""HTML pages out of `templates/`; whatever is set into them is escaped."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def templates() -> Environment:
    """The templates of this room."""
    return Environment(
        loader=PackageLoader("tadp_ray.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def page(template: str, **values: object) -> str:
    """A page of its own: a template by its name, filled with these values."""
    return templates().get_template(template).render(values)
