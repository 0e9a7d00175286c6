"""A server that answers, but not as MLflow does, is told in one line, at the start and in the middle."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tadp_ray.errors import UserError
from tadp_ray.tracking.query import finished, rows
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import Sender, replay
from tadp_ray.tracking.store import Store, open_store
from tadp_ray.tracking.sweep_run import attach, end_parent, parent

GARBAGE = {
    "a page": (200, b"<html>Please log in</html>"),
    "nothing": (200, b""),
    "another type": (200, b'{"experiments": 5, "runs": 5, "run": 5, "experiment": 5}'),
    "not text": (200, b"\xff\xfe\x00"),
    "a list": (200, b"[1, 2]"),
    "an error of its own": (500, b'{"error": "geheim"}'),
    "a refusal": (403, b"<html>no</html>"),
    "a code that is none": (400, b'{"error_code": "NO_SUCH", "message": "x"}'),
}


@contextmanager
def answering(code: int, body: bytes) -> Iterator[str]:
    """A server that says the same to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PATCH = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def said(asked: Callable[[], object]) -> str:
    """What the user is told, in one line; empty if nothing is wrong."""
    try:
        asked()
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("kind", GARBAGE)
def test_an_answer_that_is_none_is_told(kind: str, store, make_cell, journals, capfd) -> None:
    cell, lines = make_cell(), []
    journals.start(cell)
    journals.finish(cell, miou=50.0)
    with answering(*GARBAGE[kind]) as address:
        if kind != "nothing":
            assert address in said(lambda: open_store(address))
        away = Store(address, type(store.client)(address))
        for asked in (
            lambda: parent(away, "prec_recall", "pocket", "key"),
            lambda: rows(away, "prec_recall"),
            lambda: finished(away, [cell.fingerprint]),
            lambda: replay(away, cell_run_spec("parent", cell)),
        ):
            assert said(asked) or kind == "nothing"
        sender = Sender(away, [cell_run_spec("parent", cell)], period=0.02, warn=lines.append)
        assert sender.close(timeout=1) > 0 and len(lines) == 1, lines
        end_parent(away, "run", "FINISHED")
        attach(away, "run", [cell.folder / "journal.jsonl"])
    assert "Traceback" not in capfd.readouterr().err
    replay(store, cell_run_spec(parent(store, "prec_recall", "pocket", "key"), cell))
    assert finished(store, [cell.fingerprint])[cell.fingerprint].metrics == {"miou": 50.0}
