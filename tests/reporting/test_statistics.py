"""The numbers that a table computes of its cells, against values worked by hand or by other programs."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tadp_ray.config.table import Side
from tadp_ray.errors import UserError
from tadp_ray.reporting.regression import points_of
from tadp_ray.reporting.resampling import PERCENT, RESAMPLES, interval, resamples
from tadp_ray.reporting.seeds import gap_of
from tadp_ray.reporting.table import EntryDifference, Table, TableEntry, build_table, rank_correlation_notes
from tadp_ray.tasks.depth.per_image import DepthImages


def entry(
    values: tuple[float, ...], published: float | None = None, metric: str = "miou", num_seeds: int = 0
) -> TableEntry:
    """An entry with these seeds."""
    return TableEntry(
        "r", "c", metric, values, num_seeds or len(values), published, (), seeds=tuple(range(len(values)))
    )


def test_a_spread_is_the_sample_s_and_what_is_not_finite_has_none() -> None:
    assert entry((1.0, 2.0, 6.0)).sd == pytest.approx(math.sqrt((4 + 1 + 9) / 2)) and entry((5.0,)).sd is None
    for bad in (math.nan, math.inf):
        unfinished = entry((1.0, bad))
        assert math.isnan(unfinished.mean) and (unfinished.sd, unfinished.complete) == (None, False)
        assert gap_of((1.0, 2.0, bad)) is None
        assert entry((1.0, bad)).text == "not finite" and entry((bad,), num_seeds=2).text == "not finite (1/2)"


def test_spearman_with_ties_is_of_each_metric_alone() -> None:
    ours, theirs = (1.0, 2.0, 2.0, 5.0, 3.0), (10.0, 20.0, 30.0, 30.0, 5.0)
    # Ranks 1 2.5 2.5 5 4 and 2 3 4.5 4.5 1, by hand: products sum to 2.25, squares to 9.5 and 9.5.
    (note,) = rank_correlation_notes([[entry((own,), other) for own, other in zip(ours, theirs, strict=True)]])
    assert note.endswith("0.24 over 5 entries")
    # Of two metrics each agrees wholly; thrown together they would not.
    rising = [entry((float(k),), 100.0 + k) for k in range(3)]
    depth = [entry((10.0 + k,), 0.1 * k, "rmse") for k in range(3)]
    assert rank_correlation_notes([rising, depth]) == [
        "Spearman rank correlation of ours with the published numbers, mIoU (%): 1.00 over 3 entries",
        "Spearman rank correlation of ours with the published numbers, RMSE (m): 1.00 over 3 entries",
    ]
    assert rank_correlation_notes([rising[:2], depth[:2]]) == []
    assert rank_correlation_notes([[entry((1.0,), num_seeds=2), *rising[:2]]]) == []


@pytest.fixture
def filled(spec, make_cell, row_of):
    """Fills a column of three rows with these values of a metric."""

    def fill(metric: str, *values: float) -> Table:
        asked = replace(spec, metrics=(metric,), columns=Side(("caption.recall",), ((0.5,),)), published=None)
        cells = [make_cell(precision, 0.5) for precision in (0.5, 0.75, 1.0)]
        rows = {}
        for cell, value in zip(cells, values, strict=True):
            rows[cell.fingerprint] = replace(row_of(cell, 0.0), metrics={metric: value})
        return build_table(asked, cells, rows)

    return fill


def test_the_best_is_the_lowest_of_errors_and_all_that_look_like_it(filled) -> None:
    for metric, values, best in (
        ("miou", (40.001, 40.004, 39.0), [True, True, False]),
        ("rmse", (0.254, 0.225, 0.2251), [False, True, True]),
        ("best_rmse", (3.0, 2.0, 1.0), [False, False, True]),
        ("delta1", (0.961, 0.964, 0.9), [False, True, False]),
        ("miou", (10.0, math.nan, 9.0), [True, False, False]),
    ):
        table = filled(metric, *values)
        assert [row[0].best for row in table.entries] == best, metric
        assert ("lowest" in table.caption) == ("rmse" in metric)


def test_metrics_that_rise_and_fall_have_a_best_and_no_highest(filled) -> None:
    table = filled("rmse", 1.0, 2.0, 3.0)
    both = replace(table, spec=replace(table.spec, metrics=("rmse", "delta1")))
    assert "Bold: the best of ours of each metric." in both.caption


def test_depth_is_shown_with_the_decimals_that_are_printed_of_it(filled) -> None:
    """NYUv2's RMSE of 0.254 and 0.225 differ by a tenth, and would both be about 0.2."""
    assert [row[0].text for row in filled("rmse", 0.254, 0.225, 0.2249).entries] == ["0.254", "0.225", "0.225"]
    assert entry((0.062,), 0.069, "abs_rel").published_text == "0.069"
    assert (entry((40.446,)).text, entry((50.0, 51.0)).text) == ("40.45", "50.50 ± 0.71")
    assert EntryDifference(-0.0123, 0.001, (-0.02, -0.0046), 3).text == "-0.012 ± 0.001 [-0.020, -0.005]*"


def test_resamples_are_data_sets_of_as_many_images_and_intervals_are_percentiles() -> None:
    counts = resamples(50)
    assert counts.shape == (RESAMPLES, 50) and (counts.sum(1) == 50).all()
    # Each image is in a resample once on average, with the variance of a binomial.
    assert counts.mean() == 1 and counts.var() == pytest.approx(49 / 50, rel=0.02)
    values = np.arange(1001.0)
    np.testing.assert_allclose(interval(values), (25, 975))
    assert PERCENT == 95
    values[:500] = np.nan
    np.testing.assert_allclose(interval(values), (512.5, 987.5))


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error() -> None:
    errors = np.random.default_rng(3).normal(size=400)
    low, high = interval(resamples(400) @ errors / 400)
    assert high - low == pytest.approx(2 * 1.96 * errors.std() / 20, rel=0.06)
    assert low < errors.mean() < high


def test_points_of_what_was_not_segmented_are_refused() -> None:
    images = DepthImages("depth", (), ({"id": "a", "rmse": 1.0},))
    with pytest.raises(UserError, match="figure: kind: recall needs segmentation, but these cells do depth"):
        points_of("recall", images)
