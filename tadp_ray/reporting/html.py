"""Renders the HTML templates in `templates/`; all values are escaped."""

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

OPTION = re.compile(r"((?<!\S)--[a-z][\w-]*(?: [\w,.=]+)?)")
"""An option of a command with its value, such as `--seeds 0,1,2`."""


@cache
def templates() -> Environment:
    """Return the environment of this package's templates."""
    environment = Environment(
        loader=PackageLoader("tadp_ray.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["unbroken"] = unbroken
    return environment


def unbroken(text: str) -> Markup:
    """Escape a text, whose options of commands a browser would break at their hyphens."""
    whole = Markup('<span class="option">{}</span>')
    parts = OPTION.split(text)
    # Every second part is an option; joined, the others are escaped.
    return Markup("").join(whole.format(part) if place % 2 else part for place, part in enumerate(parts))


def render_page(template: str, **values: object) -> str:
    """Return a standalone HTML page."""
    return templates().get_template(template).render(values)
