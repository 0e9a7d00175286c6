"""Escapes text for Markdown, LaTeX and fenced code."""

import re

MARKDOWN_SPECIAL = re.compile(
    r"[\\`*|~]"  # code, emphasis, table cells
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis, but not within a name
    r"|\[(?=[^\]]*\][\[(:])"  # links
    r"|^(?:#|>|\[|[-+=](?=\s|$|[-=]))"  # headings, block quotes, check boxes, lists
)
ENTITIES = {"<": "&lt;", "$": "&#36;", "&": "&amp;"}
HTML_SPECIAL = re.compile(r"[<$]|&(?=#?\w+;)")
"""Tags, mathematics and entities, which MLflow's page does not leave alone behind a backslash."""
NUMBER = re.compile(r"^(\d+)([.)])(?=\s|$)")
"""Starts a numbered list."""
ZERO_WIDTH = "\N{ZERO WIDTH SPACE}"
"""Between two hyphens, so that LaTeX does not join them to a dash."""
LATEX = str.maketrans(
    {
        "&": r"\&",
        "%": r"\%",
        "_": r"\_",
        "#": r"\#",
        "$": r"\$",
        "{": r"\{",
        "}": r"\}",
        "±": r"$\pm$",
        "–": "--",
    }
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "`": r"\textasciigrave{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", ZERO_WIDTH: "{}", "†": r"$^\dagger$"}
)


def one_line(text: str) -> str:
    """Replace line breaks, which would end a cell, a heading or a paragraph, by spaces."""
    return " ".join(text.split())


def md(text: str) -> str:
    """Escape text for Markdown."""
    safe = NUMBER.sub(r"\1\\\2", MARKDOWN_SPECIAL.sub(r"\\\g<0>", one_line(text)))
    return HTML_SPECIAL.sub(lambda found: ENTITIES[found[0]], safe)


def tex(text: str) -> str:
    """Escape text for LaTeX, also at the start of a row, where a bracket or a star would be an argument of `\\\\`."""
    safe = re.sub("-(?=-)", f"-{ZERO_WIDTH}", one_line(text)).translate(LATEX)
    return "{}" + safe if safe.startswith(("[", "*")) else safe


def fenced(text: str) -> str:
    """Return a fenced code block, whose fence is longer than any run of backticks in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"
