"""A secret in an address stays in the memory of the command: no journal, database, terminal or report tells it."""

from pathlib import Path

import numpy as np
from PIL import Image

from tadp_ray.tracking.store import Store
from tests.fixtures.cli import invoke

SECRET = "geheim"
ADDRESS = f"http://me:{SECRET}@127.0.0.1:5000/x?client_secret={SECRET}&token={SECRET}"


def test_no_file_and_no_line_tells_the_password_of_the_store(
    store, experiment: Path, swept, tmp_path: Path, monkeypatch
) -> None:
    from tadp_ray.cli.picture import log_pictures
    from tadp_ray.pictures.comparison import Comparison, ImageScore

    swept(experiment)
    (tmp_path / "asked").mkdir()
    text = experiment.read_text().replace("recipe.yaml", "../recipe.yaml").replace("sweep.yaml", "../sweep.yaml")
    (tmp_path / "asked/tiny.yaml").write_text(text)
    # A store that is known by such an address, and answers.
    known = Store(ADDRESS, store.client)
    monkeypatch.setattr("tadp_ray.tracking.store.open_store", lambda *_, **__: known)
    lines = [repr(known), known.safe_uri]

    def said(*words: object) -> str:
        words = [*map(str, words), "--tracking-uri", ADDRESS]
        monkeypatch.setattr("sys.argv", ["tadp-ray", *words])
        result = invoke(*words)
        lines.append(result.output)
        return result.output

    assert "Oracle captions" in said("table", experiment, "--storage", tmp_path / "answers")
    assert "records sent to http://me:***@127.0.0.1:5000/x?client_secret=***&token=***" in said(
        "tracking", "flush", tmp_path / "runs"
    )
    (tmp_path / "out").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "out/better.png")
    monkeypatch.setattr("sys.argv", ["tadp-ray", "picture", "--tracking-uri", ADDRESS])
    comparison = Comparison.__new__(Comparison)
    score = ImageScore("mean IoU", "{:.1f}")
    vars(comparison).update(score=score, systems=("a", "b"), ids=("1",), scores=np.array([[1.0], [2.0]]))
    log_pictures(known, comparison, tmp_path / "out", "out", ["better.png"])
    assert "written in" in said("report", tmp_path / "report", "--experiments", tmp_path / "asked")
    assert "tadp-ray picture --tracking-uri" in (tmp_path / "report/report.md").read_text()
    assert not any(SECRET in line for line in lines), lines
    held = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert held == []
