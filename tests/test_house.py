"""The house stands as it is drawn: its floors hold, and its modules log in one way."""

import ast
import re
import subprocess
import sys
from pathlib import Path

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
        ("config/schema.py", "segmentation"),  # a recipe's default
        ("api/trained.py", "depth"),  # what a sample holds, too
        *(("registry.py", f"tadp_ray.tasks.{task}.config") for task in BUILT_IN_TASKS),  # where it registers itself
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
