"""The house stands as it is drawn: its floors hold, and its modules log in one way."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import grimp

from tadp_ray import layout

ROOT = Path(__file__).resolve().parents[1]
BUILT_IN_TASKS = ("segmentation", "depth", "detection")


def test_rooms_import_only_rooms_below() -> None:
    # In a process of its own: it disables every logger that it finds.
    code = "import sys; from importlinter.cli import lint_imports as lint; sys.exit(lint(sys.argv[1], no_cache=True))"
    words = [sys.executable, "-c", code, str(ROOT / "pyproject.toml")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_logs_by_a_logger_of_its_own_name_and_nobody_prints_to_stderr() -> None:
    """`log = logging.getLogger(__name__)`; other packages' loggers are named to quieten them, and that is all."""
    loggers, printing = {}, []
    for path in sorted((ROOT / "tadp_ray").rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        words = [ast.unparse(call) for call in calls]
        own = [text for text in words if text == "logging.getLogger(__name__)"]
        used = any(text.startswith(("log.debug(", "log.info(", "log.warning(", "log.error(")) for text in words)
        loggers[str(path.relative_to(ROOT))] = (len(own), used)
        if path.name != "logs.py":
            printing += [path for text in words if text.startswith("print(") and "file=sys.stderr" in text]
    assert not printing
    logging_modules = {path for path, (count, _) in loggers.items() if count}
    assert {count for count, _ in loggers.values()} == {0, 1}
    assert logging_modules >= {path for path, (_, used) in loggers.items() if used}
    assert {
        "tadp_ray/tracking/sender.py",
        "tadp_ray/training/checkpoint.py",
        "tadp_ray/sweep/engine.py",
    } <= logging_modules


def test_what_lies_in_runs_is_named_in_the_layout_alone() -> None:
    """Names of files, wherever they stand; of folders, where a path is made of them."""
    names = [value for name, value in vars(layout).items() if name.isupper()]
    assert len({*names}) == len(names)
    found = []
    for path in sorted(own for own in (ROOT / "tadp_ray").rglob("*.py") if own.name != "layout.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        words = [node.value for node in nodes if isinstance(node, ast.Constant)]
        joined = [node for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)]
        parts = [node.right.value for node in joined if isinstance(node.right, ast.Constant)]
        found += [(path.name, word) for word in words if word in names and "." in word]
        found += [(path.name, part) for part in parts if part in names]
    assert not found


def test_only_tasks_and_data_name_a_task() -> None:
    """So that a new task is a new folder: neither its name nor its modules stand in another room."""
    exempt = {
        ("config/recipe.py", "segmentation"),  # a recipe's default
        *((place, "depth") for place in ("api/trained.py", "training/check.py")),  # what a sample holds, too
        *(("plugins.py", f"tadp_ray.tasks.{task}.config") for task in BUILT_IN_TASKS),  # where it registers itself
    }
    found = set()
    for path in sorted((ROOT / "tadp_ray").rglob("*.py")):
        place = path.relative_to(ROOT / "tadp_ray")
        if place.parts[0] in ("tasks", "data"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = node.module if isinstance(node, ast.ImportFrom) else getattr(node, "value", None)
            named = isinstance(text, str) and text.removeprefix("tadp_ray.tasks.").partition(".")[0] in BUILT_IN_TASKS
            found |= {(place.as_posix(), text)} if named else set()
    assert found == exempt


def test_no_room_asks_which_head_it_has() -> None:
    for path in (ROOT / "tadp_ray").rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        asked = [ast.unparse(call) for call in calls if ast.unparse(call.func) == "isinstance"]
        assert not [text for text in asked if re.search(r"\bhead\b", text)], path


FLOORS = (
    *("cli", "api", "reporting", "sweep", "tracking", "paper", "training", "tasks", "conditioning", "backbones"),
    *("pictures", "data", "captions", "config", "registry"),
)


def import_matrix() -> str:
    """Rooms from the top floor down, a mark where the room of a row imports that of a column."""
    graph = grimp.build_graph("tadp_ray", exclude_type_checking_imports=True)

    def room(module: str) -> str:
        return module.partition(".")[2].partition(".")[0]

    pairs = {
        (room(own), room(other)) for own in graph.modules for other in graph.find_modules_directly_imported_by(own)
    }
    # `python -m tadp_ray.sweep` is a door to the command line.
    pairs -= {("sweep", "cli")}
    head = " " * 13 + " ".join(name[:4].ljust(4) for name in FLOORS)
    lines = [
        f"{own:<13}"
        + " ".join(("-" if own == other else "x" if (own, other) in pairs else " ").ljust(4) for other in FLOORS)
        for own in FLOORS
    ]
    return "\n".join(line.rstrip() for line in (head, *lines))


def test_the_import_graph_is_as_it_is_drawn_and_all_of_it_points_down() -> None:
    matrix = import_matrix()
    assert matrix in (ROOT / "docs/architecture.md").read_text(), (
        f"docs/architecture.md shows another graph than\n{matrix}"
    )
    for place, line in enumerate(matrix.splitlines()[1:]):
        assert "x" not in line[13 : 13 + 5 * place], line
