"""A figure over the recall of captions takes the rule that is asked for, and says which it took."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tadp_ray.captions.alignment import Similarity
from tadp_ray.config.experiment import FigureConfig
from tadp_ray.data.scenes import CLASSES
from tadp_ray.errors import UserError
from tadp_ray.layout import SIMILAR
from tadp_ray.reporting import matching, results, scatter
from tadp_ray.reporting.matching import match_all, rematch
from tadp_ray.reporting.regression import correlation_notes
from tadp_ray.reporting.table import build_table
from tadp_ray.tasks.segmentation.per_image import SegmentationImages


def image(prompt: str, **areas: int) -> dict:
    """An image whose label map shows classes on so many pixels; the training noted a recall of 0.25."""
    labels = [CLASSES.index(name) for name in areas]
    found = {"classes": labels, "truth": list(areas.values()), "intersection": [1] * len(labels)}
    return {"id": prompt, "prompt": prompt, "precision": 0.125, "recall": 0.25, "union": [9] * len(labels), **found}


IMAGES = SegmentationImages(
    "segmentation",
    CLASSES,
    (
        image("a photo of cars and grass", car=5, grass=3, sky=0),
        image("an automobile on grass", car=5, grass=3),
        image("a car", sky=4),
    ),
)
NEAR = {("cars", "car"): 0.95, ("cars", "duck"): 0.9, ("automobile", "car"): 0.93, ("automobile", "truck"): 0.89}
"""Cosines of an encoder that takes cars for ducks, too."""
# Said by each prompt. The emoji's own synonym of a car is known to the everyday ones.
HAND = {
    "recorded": ([0.125] * 3, [0.25] * 3),
    "exact": ([1, 1, 0], [1, 1 / 2, 0]),
    "synonyms": ([1, 1, 0], [1, 1, 0]),
    "similar": ([2 / 3, 1, 0], [1, 1, 0]),
}


def encoder(weights: str) -> Similarity:
    """The cosines of words with names: 1 with themselves, else those above or 0."""
    return lambda words, names: np.array([[float(w == n) or NEAR.get((w, n), 0.0) for n in names] for w in words])


@pytest.fixture
def done(make_cell, row_of):
    """A finished cell, and its row by its fingerprint."""
    cell = make_cell(recall=0.5)
    return cell, {cell.fingerprint: row_of(cell, 40.0)}


@pytest.mark.parametrize("rule", HAND)
def test_each_rule_gives_what_is_counted_by_hand(
    rule: str, done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "TEXT_SIMILARITY", encoder)
    cell, rows = done
    run = rows[cell.fingerprint].run_id
    found = match_all(rule, [cell], rows, {run: IMAGES, "of another": IMAGES}, tmp_path / "new")
    assert found["of another"] is IMAGES
    for name, wanted in zip(("precision", "recall"), HAND[rule], strict=True):
        values = [each[name] for each in found[run].images]
        assert values == pytest.approx(wanted), name
    assert (tmp_path / "new" / SIMILAR).is_file() == (rule == "similar")


def test_the_encoder_is_asked_once(done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, rows = done
    asked: list[str] = []

    def counting(weights: str):
        asked.append(weights)
        return encoder(weights)

    monkeypatch.setattr(matching, "TEXT_SIMILARITY", counting)
    images = {rows[cell.fingerprint].run_id: IMAGES}
    first = match_all("similar", [cell], rows, images, tmp_path)
    assert match_all("similar", [cell], rows, images, tmp_path) == first and asked == ["pocket"]
    for times, damaged in enumerate((b'{"cut sho', b"\xff", b"[]"), 2):
        (tmp_path / SIMILAR).write_bytes(damaged)
        assert match_all("similar", [cell], rows, images, tmp_path) == first and asked == ["pocket"] * times
    other = cell.model_copy(update={"digests": {**cell.digests, "weights": "others"}})
    done_other = {other.fingerprint: rows[cell.fingerprint]}
    assert match_all("similar", [other], done_other, images, tmp_path) == first and len(asked) == 5


def test_the_background_is_no_name() -> None:
    voc = SegmentationImages(
        "segmentation", ("background", "cat"), ({**IMAGES.images[0], "classes": [0, 1], "truth": [5, 5]},)
    )
    found = rematch(voc, lambda _: ("cat",)).images[0]
    assert (found["precision"], found["recall"]) == (1.0, 1.0)


def test_words_that_the_text_encoder_did_not_read_are_not_said() -> None:
    image = {**IMAGES.images[0], "prompt": "sky and a cat", "read": "sky and"}
    heard = []
    rematch(SegmentationImages("segmentation", IMAGES.classes, (image,)), lambda text: heard.append(text) or ())
    assert heard == ["sky and"]


def test_the_rule_stands_in_the_figure_and_in_the_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(scatter, "write_figure", lambda figure, path: drawn.append(figure.get_suptitle()))
    both = FigureConfig(title="T", kind="recall", match={"paper": "similar"})
    for scale, rule in (
        ("paper", "CLIP's similarity of a word to a name, at least 0.9"),
        ("pocket", "the names it was made from"),
    ):
        assert any(f"Figure: a caption names a class by {rule}" in line for line in correlation_notes(both, scale, {}))
        scatter.draw_lines(both, {}, scale, tmp_path / "figure.png")
        assert f"a caption names a class by {rule}" in drawn[-1].replace("\n", " ")
    size = FigureConfig(title="T", kind="size")
    scatter.draw_lines(size, {}, "paper", tmp_path / "figure.png")
    assert "a caption names" not in drawn[-1] and not any(
        "names a class" in line for line in correlation_notes(size, "paper", {})
    )
    with pytest.raises(ValueError, match="match is a rule on captions, so it needs kind: recall, not size"):
        FigureConfig(title="T", kind="size", match="similar")


def test_without_the_encoder_the_table_stands_and_no_figure_by_another_rule(
    done, spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, rows = done
    figure = FigureConfig(title="T", kind="recall", match="similar")

    def absent(weights: str):
        raise UserError(f"{weights} is not here")

    monkeypatch.setattr(matching, "TEXT_SIMILARITY", absent)
    table = build_table(replace(spec, figure=figure), [cell], rows)
    images = {rows[cell.fingerprint].run_id: IMAGES}
    told_of, pictures = results.draw_figures(table, [cell], rows, {}, images, tmp_path)
    assert told_of.notes[-1] == "Figure: not drawn, pocket is not here" and pictures == []
