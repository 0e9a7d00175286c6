"""The server lives as long as the command that started it, and no proxy stands between them."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tadp_ray.errors import UserError
from tadp_ray.tracking import dashboard as module
from tadp_ray.tracking import tied


def taken(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.cluster
def test_a_dashboard_that_is_killed_leaves_no_server(store, free_port, tmp_path: Path, wait_for) -> None:
    """With a proxy in the environment that answers nobody, too."""
    words = ["-m", "tadp_ray", "dashboard", "--tracking-uri", store.uri, "--port", str(free_port)]
    environment = os.environ | {"http_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    environment |= {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "example.org", "PYTHONUNBUFFERED": "1"}
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, *words], env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        said = process.stdout.readline()
        assert said.startswith(f"open http://127.0.0.1:{free_port}/#/experiments"), (tmp_path / "errors").read_text()
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2 and taken(free_port)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=900)
    wait_for(lambda: not taken(free_port))
    wait_for(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family))


DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
CHILDREN = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {DEAF!r}])
time.sleep(600)
"""
ASKER = """
import subprocess, sys, time
from tadp_ray.tracking import tied
process = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=subprocess.PIPE, stdout=1, start_new_session=True)
print(process.pid, flush=True)
time.sleep(600)
"""


def test_a_dashboard_for_others_warns(store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    served = SimpleNamespace(wait=lambda: 1)
    monkeypatch.setattr(module, "serve", lambda _, host, port: nullcontext((f"http://{host}:{port}", served)))
    for host, warned in (("127.0.0.1", False), ("0.0.0.0", True)):
        with pytest.raises(UserError, match="ended with exit code 1"):
            module.dashboard(store, host, echo=lambda _: None)
        assert ("whoever reaches 0.0.0.0:5000 can change and delete these runs" in caplog.text) is warned


def test_what_is_tied_ends_with_its_children_when_the_asker_is_killed(tmp_path: Path, wait_for) -> None:
    """A child that heeds no signal, too: it is killed after a while."""
    (tmp_path / "tied.py").write_text(Path(tied.__file__).read_text().replace("PATIENCE = 10.0", "PATIENCE = 0.2"))
    words = [sys.executable, "-c", ASKER, str(tmp_path / "tied.py"), sys.executable, "-c", CHILDREN]
    asker = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    lines = sorted(asker.stdout.readline() for _ in range(2))
    assert lines[1] == "up\n"
    top = psutil.Process(int(lines[0]))
    family = [top, *top.children(recursive=True)]
    assert len(family) == 3
    asker.kill()
    asker.wait()
    asker.stdout.close()
    wait_for(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family))


def test_a_tied_command_ends_with_its_own_exit_code() -> None:
    words = [sys.executable, tied.__file__, sys.executable, "-c", "import sys; sys.exit(7)"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE)
    assert process.wait(900) == 7
    process.stdin.close()


def test_a_proxy_is_not_asked_for_this_machine() -> None:
    """Neither by MLflow's client nor by the knock before it; what the user has said besides stands."""
    script = (
        "import os, requests, urllib.request, tadp_ray.tracking\n"
        "from requests.utils import should_bypass_proxies\n"
        "hosts = ['http://127.0.0.1:5000', 'http://localhost:5000', 'http://[::1]:5000']\n"
        "assert all(should_bypass_proxies(host, None) for host in hosts)\n"
        "assert not should_bypass_proxies('http://mlflow.example.org', None)\n"
        "assert should_bypass_proxies('http://inside.example', None)\n"
        "assert all(urllib.request.proxy_bypass(host) for host in ('127.0.0.1:5000', 'localhost:5000', 'inside.example'))\n"
    )
    environment = os.environ | {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "inside.example"}
    environment.pop("no_proxy", None)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
