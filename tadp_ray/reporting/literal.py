"""Words as they are, in forms that would take some of their characters for commands: Markdown, LaTeX, fenced code."""

import re

MARKS = re.compile(
    r"[\\`*<|~$]"  # code, stress, tags, cells, mathematics
    r"|(?<![^\W_])_|_(?![^\W_])"  # stress, but not within a name
    r"|\[(?=[^\]]*\][\[(:])"  # links
    r"|&(?=#?\w+;)"  # entities
    r"|^(?:#|>|\[|[-+=](?=\s|$|[-=]))"  # headings, quotations, check boxes, lists
)
NUMBER = re.compile(r"^(\d+)([.)])(?=\s|$)")
"""Begins a list."""
BREAK = "\N{ZERO WIDTH SPACE}"
"""Keeps two hyphens from being set as a dash."""
LATEX = str.maketrans(
    {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "±": r"$\pm$", "–": "--"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "`": r"\textasciigrave{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", BREAK: "{}"}
)


def one_line(text: str) -> str:
    """A text without line breaks, which would end a cell, a heading or a paragraph."""
    return " ".join(text.split())


def md(text: str) -> str:
    """A text that Markdown shows as it is."""
    return NUMBER.sub(r"\1\\\2", MARKS.sub(r"\\\g<0>", one_line(text)))


def tex(text: str) -> str:
    """A text that LaTeX sets as it is, at the start of a row too, where a bracket or a star would belong to the row before."""
    safe = re.sub("-(?=-)", f"-{BREAK}", one_line(text)).translate(LATEX)
    return "{}" + safe if safe.startswith(("[", "*")) else safe


def fenced(text: str) -> str:
    """A block of code, between more backticks than the text has in a row."""
    marks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{marks}\n{text}\n{marks}"
