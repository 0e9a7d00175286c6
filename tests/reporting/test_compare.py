"""Rows are compared by the same images on both sides, and a mark stands only where chance in them leaves no doubt."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from tadp_ray.config.errors import ConfigError
from tadp_ray.config.experiment import FigureConfig
from tadp_ray.config.table import Side
from tadp_ray.reporting.compare import compare, differences_to, find_row
from tadp_ray.reporting.regression import Points, correlation_notes, fit_line, fit_rows, least_squares, points_of
from tadp_ray.reporting.render import html, latex, markdown, terminal, to_csv
from tadp_ray.reporting.table import TableEntry, build_table
from tadp_ray.tasks.depth.per_image import DepthImages
from tadp_ray.tasks.detection.per_image import DetectionImages
from tadp_ray.tasks.per_image import PerImage
from tadp_ray.tasks.segmentation.per_image import SegmentationImages

N = 300


def images_of(hits: np.ndarray) -> PerImage:
    """Images of ten pixels of one class, of which some are found."""
    rows = [
        {
            "id": str(i),
            "recall": i / N,
            "pixels": 40,
            "classes": [0],
            "intersection": [hit],
            "union": [10],
            "truth": [10],
        }
        for i, hit in enumerate(hits.tolist())
    ]
    return SegmentationImages("segmentation", ("sky",), tuple(rows))


@pytest.fixture
def filled(spec, make_cell, row_of):
    """A table of two seeds, and its images: images differ much, rows by 10 points (0.75) and by nothing but chance (1.0)."""
    rng = np.random.default_rng(1)
    hard = rng.integers(0, 8, N)
    cells = [make_cell(p, 0.5, seed) for p in (0.5, 0.75, 1.0) for seed in (0, 1)]
    rows, images = {}, {}
    for cell in cells:
        precision = cell.axes["caption.precision"]
        found = images_of(hard + {0.5: 0, 0.75: 1}.get(precision, rng.integers(-1, 2, N) * (hard > 0)))
        row = row_of(cell, found.scores("miou", np.ones((1, N)))[0])
        rows[cell.fingerprint] = row
        images[row.run_id] = found
    return build_table(spec, cells, rows), images


def test_a_paired_difference_is_not_blurred_by_what_both_sides_share(filled):
    table, images = filled
    compared = compare(table, "caption.precision=0.5", images)
    plus, same = (compared.entries[i][0].difference for i in (1, 2))
    # Every image gains exactly ten points: whichever images are drawn, the difference is ten.
    assert (plus.mean, *plus.interval) == pytest.approx((10, 10, 10)) and plus.significant
    # The mean of two seeds of N images with a standard deviation of sqrt(2/3) * 10 * sqrt(7/8) each, as a normal has it.
    width = 2 * 1.96 * 10 * np.sqrt(2 / 3 * 7 / 8 / 2 / N)
    low, high = same.interval
    assert high - low == pytest.approx(width, rel=0.15) and low < same.mean < high
    assert not same.significant and not same.text.endswith("*")
    assert compared.entries[0][0].difference is None and compared.entries[1][1].difference is None
    assert compare(table, "precision 0.5", images) == compared
    assert f"2000 resamples of the {N} scored images" in compared.notes[-1]


def test_only_seeds_of_both_rows_count_and_what_has_no_interval_says_why(filled):
    table, images = filled
    gone = table.entries[1][0].run_ids[0]
    kept = {run: own for run, own in images.items() if run != gone}
    compared = compare(table, "0.5", kept)
    assert (
        compared.entries[1][0].difference.text == "+10.00 ± 0.00"
        and compared.entries[2][0].difference.interval is not None
    )
    assert compared.notes[-1] == "no interval for 1 entry: cells without per-image results"
    others = {**images, gone: SegmentationImages("segmentation", ("sky",), images[gone].images[1:])}
    assert "scored on other images" in compare(table, "0.5", others).notes[-1]


def test_values_of_the_same_seed_are_subtracted():
    def entry(values, seeds):
        return TableEntry("r", "c", "miou", values, 3, None, ("run",) * len(values), seeds=seeds)

    found, reasons = differences_to({})(entry((40.0, 20.0, 10.0), (0, 1, 2)), entry((9.0, 15.0), (2, 1)))
    # 20 - 15 of seed 1 and 10 - 9 of seed 2.
    assert found.text == "+3.00 ± 2.83" and reasons == ["cells without per-image results"]


def test_images_that_a_metric_does_not_depend_on_do_not_count() -> None:
    """Of four images three are without depth, or without a boat."""
    depth = DepthImages("depth", (), tuple({"id": str(k), "rmse": 8.0 + k if not k else None} for k in range(4)))
    assert depth.counted("rmse").sum() == 1
    boats = [
        {"id": str(k), "pixels": 9, "classes": [int(k == 0)], "intersection": [3], "union": [4], "truth": [4]}
        for k in range(4)
    ]
    areas = SegmentationImages("segmentation", ("sky", "boat"), tuple(boats))
    assert (areas.counted("iou/boat").sum(), areas.counted("miou").sum()) == (1, 4)
    seen = ({"id": "a", "labels": [1], "objects": []}, {"id": "b", "labels": [], "objects": []})
    assert DetectionImages("detection", ("cat",), seen).counted("ap50").tolist() == [True, False]
    one = TableEntry("r", "c", "rmse", (8.0,), 1, None, ("a",), seeds=(0,))
    found, reasons = differences_to({"a": depth, "b": depth})(one, replace(one, run_ids=("b",)))
    assert found.interval is None and reasons == ["an interval over images needs 3 that the metric depends on"]


def test_too_few_images_give_no_interval(filled):
    """Every sample of one image is that image, so that its interval would have no width."""
    table, images = filled
    few = {run: SegmentationImages("segmentation", ("sky",), own.images[:2]) for run, own in images.items()}
    compared = compare(table, "0.5", few)
    assert compared.entries[1][0].difference.interval is None and compared.notes[-1].endswith(
        "needs 3 that the metric depends on"
    )
    points = points_of("recall", images_of(np.array([3, 7, 2])))
    assert fit_line([points], 3) is not None
    assert fit_line([points_of("recall", images_of(np.array([3, 7])))] * 3, 2) is None


def test_every_form_shows_the_difference(filled, tmp_path):
    table, images = filled
    compared = compare(table, "0.5", images)
    text = "+10.00 ± 0.00 [+10.00, +10.00]*"
    assert f"| 0.75 | **{table.entries[1][0].text}** | {text.replace('*', chr(92) + '*')} | *49.17* |" in markdown(
        compared
    )
    assert text.replace("±", r"$\pm$") in latex(compared) and "& baseline &" in latex(compared)
    assert f"<small>{text}</small><small>published" in html(compared)
    console = Console(width=120, record=True, file=(tmp_path / "terminal").open("w"))
    console.print(terminal(compared))
    console.file.close()
    shown = console.export_text()
    assert "+10.00 ± 0.00 " in shown and "[+10.00, +10.00]*" in shown
    lines = list(csv.DictReader(to_csv(compared).splitlines()))
    assert float(lines[2]["difference_low"]) == pytest.approx(10) and lines[2]["against"] == "0.5"
    assert lines[0]["difference"] == ""


def test_a_row_is_named_by_heading_or_keys_and_else_refused():
    side = Side.of(["caption.source", "data.train"], {"caption.source": ("null", "oracle"), "data.train": (300, 3000)})
    for text in ("oracle, 300", "source=oracle, train=300", "caption.source=oracle,data.train=300"):
        assert find_row(side, text) == 2
    assert find_row(Side.of(["caption.recall"], {"caption.recall": (0.5, 1.0)}), "recall=1") == 1
    with pytest.raises(ConfigError, match="did you mean 'caption.source=oracle, data.train=300'"):
        find_row(side, "caption.source=orcle, data.train=300")
    with pytest.raises(ConfigError, match="no such row; valid names: source oracle, oracle"):
        find_row(Side.of(["caption.source"], {"caption.source": ("oracle",)}), "9")
    groups = ({"source": "oracle"}, {"source": "null"}, {"source": "store", "store": "mine.jsonl"})
    side = Side.of(["caption"], {"caption": groups})
    assert side.headings == ("oracle", "null", "store mine.jsonl")
    for text in ("store mine.jsonl", "caption=store mine.jsonl", "caption={source: store, store: mine.jsonl}"):
        assert find_row(side, text) == 2
    side = Side.of(["caption", "model.timestep"], {"caption": groups, "model.timestep": (1, [1, 50])})
    assert side.names[-1] == "store mine.jsonl, [1, 50]"
    for text in ("null, [1, 50]", "caption={source: null}, timestep=[1,50]", 'caption={source: "null"},[1, 50]'):
        assert find_row(side, text) == 3
    with pytest.raises(ConfigError, match=r"did you mean 'caption=null, model.timestep=\[1, 50\]'"):
        find_row(side, "caption=null, timestep=[1, 51]")
    side = Side.of(["caption.source"], {"caption.source": ("oracle", None)})
    assert side.headings == ("source oracle", "source null")
    for text in ("null", "source null", "source=null", "caption.source=null"):
        assert find_row(side, text) == 1
    with pytest.raises(ConfigError, match="rows are metrics"):
        find_row(Side.of(["metric"], {"metric": ("miou", "accuracy")}), "miou")


def test_a_line_is_numpy_s_and_its_interval_knows_that_points_of_an_image_are_alike():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 4, N)
    own = points_of("recall", images_of((6 * np.arange(N) / N).astype(int) + noise))
    line = fit_line([own], N)
    slope, intercept = np.polyfit(own.x, own.y, 1)
    np.testing.assert_allclose(line.y, slope * line.x + intercept)
    assert line.r == pytest.approx(np.corrcoef(own.x, own.y)[0, 1])
    # Fisher's interval, and the standard error of a regression at the middle of x.
    low, high = np.tanh(np.arctanh(line.r) + np.array([-1.96, 1.96]) / np.sqrt(N - 3))
    assert line.r_interval == pytest.approx((low, high), abs=0.02)
    residual = np.std(own.y - slope * own.x - intercept) / np.sqrt(N)
    assert np.ptp(line.band[:, 50]) == pytest.approx(2 * 1.96 * residual, rel=0.15)
    # The same points over again are no new images.
    twice = fit_line([own, own], N)
    assert twice.r_interval == pytest.approx(line.r_interval) and len(twice.points.x) == 2 * N


def test_an_image_without_names_to_recall_has_no_point():
    """Of the background alone, say."""
    found = images_of(np.array([3, 7, 2]))
    silent = replace(found, images=({**found.images[0], "recall": None}, *found.images[1:]))
    assert points_of("recall", silent).image.tolist() == [1, 2]


def test_points_that_do_not_vary_have_no_line():
    rising, same, image = np.arange(4.0), np.full(4, 0.3), np.arange(4)
    assert fit_line([Points(rising, same, image)], 4) is fit_line([Points(same, rising, image)], 4) is None
    # Three times the image at (0.3, 0.6), of whose spread rounding leaves a little.
    x, y = 0.3, 0.6
    once = np.array([1, x, y, x**2, x * y, y**2])
    assert 3 * x**2 > (3 * x) ** 2 / 3 and 3 * y**2 > (3 * y) ** 2 / 3
    r, line = least_squares(3 * once[None], rising)
    assert np.isnan(r).all() and np.isnan(line).all()


def test_size_is_of_each_class_that_is_shown():
    rows = ({"id": "a", "pixels": 100, "classes": [0, 1, 2], "intersection": [30, 5, 0], "union": [60, 20, 9]},)
    rows[0]["truth"] = [40, 10, 0]
    points = points_of("size", SegmentationImages("segmentation", ("sky", "cat", "dog"), rows))
    np.testing.assert_allclose(points.x, [0.4, 0.1])
    np.testing.assert_allclose(points.y, [50, 25])
    assert fit_line([points], 1) is None


def test_a_line_tells_which_cells_are_not_in_it(spec, make_cell, row_of):
    """Those that were scored on other images than the first one."""
    cells = [make_cell(0.5, recall, seed) for recall in (0.5, 1.0) for seed in (0, 1)]
    done = {cell.fingerprint: row_of(cell, 10.0) for cell in cells}
    found = images_of(np.arange(N) % 8)
    other = SegmentationImages("segmentation", ("sky",), found.images[1:])
    images = {row.run_id: own for row, own in zip(done.values(), (found, found, found, other), strict=True)}
    lines = fit_rows(spec, "recall", cells, done, images)
    said, *empty = (
        note
        for note in correlation_notes(FigureConfig(kind="recall", title="Recall"), "pocket", lines)
        if "precision" in note
    )
    assert said.endswith(f"{3 * N} points; left out: 1 cell scored on other images") and len(empty) == 2
