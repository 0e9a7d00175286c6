"""How commands print, and what they do when something is wrong."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.table import Table
from typer.testing import CliRunner

from tadp_ray.cli.common import Commands, console, options_for_keys, say
from tadp_ray.cli.streams import RobustStream
from tadp_ray.config.load import load_recipe
from tadp_ray.data.datasets import open_dataset
from tadp_ray.errors import UserError, said_as
from tadp_ray.network import bypass_proxy
from tests.fixtures.cli import invoke

SCRIPT = """\
import os, signal, sys
from tadp_ray.cli.common import Commands, say
from tadp_ray.errors import UserError
app = Commands(pretty_exceptions_enable=False, rich_markup_mode=None)

@app.command()
def act(what: str) -> None:
    {body}

app()
"""


def script(body: str, *words: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a command of these lines in a process of its own."""
    code = SCRIPT.format(body=body.replace("\n", "\n    "))
    shell = {"capture_output": True, "text": True, "timeout": 900, **settings}
    return subprocess.run([sys.executable, "-c", code, "x", *words], **shell)


def test_what_the_user_can_mend_is_a_line_and_a_bug_is_a_traceback() -> None:
    mendable, bug = 'raise UserError("runs[1]: [/bold] :dog: is wrong")', "zip([1], [], strict=True).__next__()"
    said = script(mendable)
    assert (said.returncode, said.stderr) == (2, "error: runs[1]: [/bold] :dog: is wrong\n")
    said = script(bug)
    assert said.returncode == 1 and "error: " not in said.stderr.replace("Error: ", "")
    assert said.stderr.startswith("Traceback") and said.stderr.endswith("zip() argument 2 is shorter than argument 1\n")
    said = script(mendable, "--debug")
    assert said.returncode == 1 and "Traceback" in said.stderr and "UserError: runs[1]" in said.stderr
    said = script(mendable, env=os.environ | {"TADP_RAY_DEBUG": "1"})
    assert said.returncode == 1 and "Traceback" in said.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('__import__("os").mkdir(what)', "x: File exists"),
        ('__import__("os").mkdir(what + "/x")', "x/x: Not a directory"),
        ('open("/", "w")', "/: Is a directory"),
        ('open(300 * what, "w")', f"{300 * 'x'}: File name too long"),
        ('raise OSError(28, "No space left on device")', "No space left on device"),
    ],
)
def test_what_a_file_system_refuses_is_a_line(body: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    done = script(body, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"error: {said}\n")
    done = script(body, "--debug", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" in done.stderr
    done = script('open("/nowhere/x")', cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" in done.stderr, "a file that should be there is a bug"


@pytest.mark.parametrize(
    ("words", "named", "mend"),
    [
        (
            ["caption", "stats", "said.jsonl", "--weights", "./none"],
            "--weights './none'",
            "name it with --weights FOLDER",
        ),
        (
            ["caption", "class-embeddings", "out.safetensors", "--classes", "a,b", "--weights", "./none"],
            "--weights './none'",
            "name it with --weights FOLDER",
        ),
        (
            ["analyze", "attention", "a.png", "a cat", "--weights", "./none"],
            "--weights './none'",
            "name it with --weights FOLDER",
        ),
        (["pocket", "measure", "no/such/model"], "FOLDER 'no/such/model'", "name it as FOLDER"),
        (["data", "check", "folder_depth", "--root", "none"], "data.root='none'", "name it with --root FOLDER"),
        (
            ["train", "recipe.yaml", "--set", "model.weights=./none"],
            "model.weights='./none'",
            "--set model.weights=FOLDER",
        ),
    ],
)
def test_an_error_names_the_option_that_the_command_has(
    experiment: Path, tmp_path: Path, words: list[str], named: str, mend: str
) -> None:
    (tmp_path / "said.jsonl").write_text('{"caption_store": 1, "images": 1}\n{"id": "a", "captions": ["a car"]}\n')
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
    done = invoke(*words)
    said = " ".join(done.output.split())
    assert done.exit_code in (1, 2) and f"{named}: there is no such folder" in said and mend in said
    assert said.count("--set") == ("--set" in words)


def test_a_tokenizer_that_is_missing_is_told_by_the_option(tmp_path: Path) -> None:
    (tmp_path / "said.jsonl").write_text('{"caption_store": 1, "images": 1}\n{"id": "a", "captions": ["a car"]}\n')
    (tmp_path / "single.safetensors").touch()
    words = ["caption", "stats", str(tmp_path / "said.jsonl"), "--weights", str(tmp_path / "single.safetensors")]
    done = invoke(*words)
    assert done.exit_code == 2 and f"error: --weights '{words[-1]}': a single file holds no tokenizer" in done.output


LOGS = """\
import logging
from tadp_ray.logs import log_level
for level in ("debug", "info", "warning", "error"):
    getattr(logging.getLogger("tadp_ray.sweep"), level)("%s of s3://key:word@host/a", level)
say(log_level() + os.environ["TADP_RAY_LOG_LEVEL"])"""


@pytest.mark.parametrize(
    ("words", "level", "shown"),
    [
        ([], "warning", "warning of s3://***@host/a\nerror of s3://***@host/a\n"),
        (["--log-level", "error"], "error", "error of s3://***@host/a\n"),
        (["--debug", "--log-level", "ERROR"], "error", "error of s3://***@host/a\n"),
    ],
)
def test_warnings_are_shown_as_they_stand_unless_another_level_is_asked_for(
    words: list[str], level: str, shown: str
) -> None:
    said = script(LOGS, *words, env=os.environ | {"TADP_RAY_LOG_LEVEL": ""})
    assert (said.stderr, said.stdout) == (shown, level * 2 + "\n")


@pytest.mark.parametrize(("words", "level"), [(["--log-level", "info"], "info"), (["--debug"], "debug")])
def test_what_is_logged_below_warnings_tells_its_time_level_and_module(words: list[str], level: str) -> None:
    levels = ("debug", "info", "warning", "error")
    # What a command is told goes before what the environment says.
    lines = script(LOGS, *words, env=os.environ | {"TADP_RAY_LOG_LEVEL": "error"}).stderr.splitlines()
    found = [re.fullmatch(r"[\d-]+ [\d:,]+ ([A-Z]+) tadp_ray.sweep: (\w+) of .*", line).groups() for line in lines]
    assert found == [(name.upper(), name) for name in levels[levels.index(level) :]]


def test_the_level_of_messages_is_one_of_four_and_may_come_from_the_environment() -> None:
    said = script("pass", "--log-level", "loud")
    assert said.returncode == 2 and "'loud' is not one of 'debug', 'info', 'warning', 'error'" in said.stderr
    quiet = script(
        'import logging\nlogging.getLogger("tadp_ray.a").warning("x")', env=os.environ | {"TADP_RAY_LOG_LEVEL": "error"}
    )
    assert (quiet.returncode, quiet.stderr) == (0, "")
    # As a library, and in the processes of a cluster.
    code = "import tadp_ray; from tadp_ray.logs import log_level; print(log_level())"
    code += "; import logging; logging.getLogger('tadp_ray').setLevel('CRITICAL'); print(log_level())"
    told = "TADP_RAY_LOG_LEVEL=loud: expected one of debug, info, warning, error; warnings are shown\n"
    for value, level, said in (("INFO", "info", ""), ("", "warning", ""), ("loud", "warning", told)):
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"TADP_RAY_LOG_LEVEL": value}, capture_output=True, text=True
        )
        assert (done.stdout, done.stderr) == (f"{level}\nerror\n", said)


@pytest.mark.parametrize(("value", "on"), [("1", True), ("true", True), ("0", False), ("no", False), ("", False)])
def test_the_environment_asks_for_tracebacks_as_the_option_does(
    value: str, on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TADP_RAY_DEBUG", value)
    body = "from tadp_ray.cli import common\nraise SystemExit(7 if common.debugging else 8)"
    assert script(body).returncode == (7 if on else 8)


def test_a_command_needs_no_standard_streams() -> None:
    code = SCRIPT.format(body="say('a')")
    for closed in (">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"):
        said = subprocess.run(
            ["sh", "-c", f'exec "$0" -c "$1" x {closed}', sys.executable, code],
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert (said.returncode, said.stderr) == (0, ""), closed
        assert said.stdout == ("a\n" if closed == "2>&-" else "")


def test_brackets_and_colons_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    say("runs[1]/[bold]x [/style] :dog: " + "y" * 200)
    assert capsys.readouterr().out == "runs[1]/[bold]x [/style] :dog: " + "y" * 200 + "\n"


def test_a_table_with_brackets_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("[bold]x", title="Captions [/style]")
    table.add_row("runs[1]")
    console.print(table)
    said = capsys.readouterr().out
    assert "Captions [/style]" in " ".join(said.split()) and "[bold]x" in said and "runs[1]" in said


def test_brackets_in_help_are_printed_as_they_are() -> None:
    app = Commands(rich_markup_mode=None)

    @app.command()
    def act() -> None:
        """Takes name: [words]."""

    assert "Takes name: [words]." in CliRunner().invoke(app, ["--help"]).output


@pytest.mark.slow
def test_the_reader_of_the_output_may_leave() -> None:
    """As `| head -1` does: all of the work is done, and nothing is said of the pipe."""
    body = 'say("first")\nsys.stdout.flush()\n[say(n) for n in range(100000)]\nprint("done", file=sys.stderr)'
    code = SCRIPT.format(body=body.replace("\n", "\n    "))
    with subprocess.Popen([sys.executable, "-c", code, "x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"first\n"
        process.stdout.close()
        assert process.stderr.read() == b"done\n" and process.wait(900) == 0


def test_a_full_disk_is_no_reader_that_left() -> None:
    stream = RobustStream(open("/dev/full", "w"))  # noqa: SIM115 - closed below, where it fails again
    stream.write("x")
    with pytest.raises(OSError, match="No space left"):
        stream.flush()
    with pytest.raises(OSError, match="No space left"):
        stream.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_ends_a_command_as_ctrl_c_does(how: signal.Signals) -> None:
    """Twice the same signal, as a shell and the kernel send it, does not disturb the ending."""
    body = f"try:\n    os.kill(os.getpid(), {int(how)})\nfinally:\n    os.kill(os.getpid(), {int(how)}); say('ended')"
    said = script(body)
    assert (said.returncode, said.stdout) == (130, "ended\n")
    assert said.stderr == "stopped; run the same command again to resume\n"


def test_a_signal_whose_exception_was_lost_counts_again() -> None:
    kill = f"os.kill(os.getpid(), {int(signal.SIGTERM)})"
    body = f"common.ENDING_SECONDS = 0\ntry:\n    {kill}\nexcept KeyboardInterrupt:\n    say('dropped')\n{kill}"
    said = script("from tadp_ray.cli import common\n" + body)
    assert (said.returncode, said.stdout) == (130, "dropped\n")


def test_what_nohup_started_goes_on() -> None:
    body = f"os.kill(os.getpid(), {int(signal.SIGHUP)})\nsay('went on')"
    said = script(body, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert (said.returncode, said.stdout) == (0, "went on\n")


def test_letters_that_the_terminal_lacks_are_spelled_out() -> None:
    said = script('say("7.4 ± 0.1 – café 汉")', env=os.environ | {"PYTHONIOENCODING": "ascii", "TERM": "dumb"})
    assert (said.returncode, said.stdout) == (0, "7.4 +- 0.1 - cafe ?\n"), said.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_holds_the_letters_that_the_terminal_lacks(encoding: str) -> None:
    """Spelled out, a quotation mark would end its text, and letters would be others."""
    body = "from tadp_ray.cli.common import show\nshow({'said': '“café” → 汉'}, (), True)"
    said = script(body, env=os.environ | {"PYTHONIOENCODING": encoding}, text=False)
    assert json.loads(said.stdout.decode(encoding)) == {"said": "“café” → 汉"}, said.stderr
    assert ("汉".encode() in said.stdout) == (encoding == "utf-8")


def test_local_servers_are_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    bypass_proxy("10.0.0.1")
    assert "no_proxy" not in os.environ
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "intranet, localhost")
    monkeypatch.setenv("no_proxy", "")
    bypass_proxy("10.0.0.1")
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "intranet,localhost,127.0.0.1,::1,10.0.0.1"
    monkeypatch.setenv("no_proxy", "*")
    bypass_proxy("10.0.0.1")
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "*"


def test_nothing_is_asked_of_the_network_at_import(tmp_path: Path) -> None:
    code = "import json, os, tadp_ray; print(json.dumps(os.environ['NO_ALBUMENTATIONS_UPDATE']))"
    environment = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == "1"


@pytest.mark.parametrize(
    ("device", "said"), [("gpu", "device 'gpu': torch "), ("meta", "--device meta: is for one process, not 2")]
)
def test_a_device_that_cannot_pretrain_is_refused_at_once(
    device: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke("pocket", "pretrain", "out", "--device", device)
    assert done.exit_code == 2 and said in " ".join(done.stderr.split()) and not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("options", "mend"),
    [(["changes"], "name it with --set data.root=FOLDER"), (["run"], "put it there again, or a link to it")],
)
def test_photographs_that_were_moved_are_named_by_an_option_that_the_command_has(
    options: list[str], mend: str, tmp_path: Path
) -> None:
    recipe = load_recipe(Path("experiments/recipes/folder_segmentation.yaml"), [f"data.root={tmp_path}/gone"])
    with (
        pytest.raises(UserError, match=f"gone': there is no such folder.*; {mend}$"),
        said_as(options_for_keys(options)),
    ):
        open_dataset(recipe.data, "val")
