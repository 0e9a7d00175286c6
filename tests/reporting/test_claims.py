"""Claims stand in the files of experiments and analyses, and are judged by their smallest step, their aim and the spread."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tadp_ray.config.claims import Difference, Measure, Measured, Ranking, Rising, Verdict
from tadp_ray.config.errors import ConfigError
from tadp_ray.config.load import load_analysis
from tadp_ray.config.resolve import ExperimentFiles, ResolvedExperiment, load_experiment
from tadp_ray.config.table import Side, TableSpec
from tadp_ray.reporting.claims import aim_text, claims_summary, judge, judge_measure, judge_measures, unit_of
from tadp_ray.reporting.report import ReportSection, claim_sections, with_claims
from tadp_ray.reporting.table import Table, TableEntry

FILES = Path(__file__).resolve().parents[2] / "experiments"
READER = ExperimentFiles()
EXPERIMENTS = [one for path in sorted(FILES.glob("*.yaml")) if (one := READER.load(path)).experiment.claims]


def table(values: dict[str, dict[int, float]], metric: str = "miou", published: tuple[float, ...] = ()) -> Table:
    """A table of one row, each column with a value for each seed."""
    columns = Side.of(["look"], {"look": tuple(values)})
    spec = TableSpec("", (metric,), Side.of(["text"], {"text": ("none",)}), columns)
    entries = tuple(
        TableEntry("none", name, metric, tuple(own.values()), len(own), number, (), seeds=tuple(own))
        for (name, own), number in zip(values.items(), published or [None] * len(values), strict=True)
    )
    return Table(spec, (entries,), ())


def seeds(*values: float) -> dict[int, float]:
    """Values of the seeds 0, 1 and so on."""
    return dict(enumerate(values))


def judged_of(claim, values: dict[str, dict[int, float]] | Table) -> Verdict:
    """What a table says of a claim."""
    own = values if isinstance(values, Table) else table(values)
    return judge(claim, lambda other: own if other is None else None)


def difference(better: str = "high", than: str = "low", **aim: float) -> Difference:
    """One column is better than another."""
    return Difference(kind="difference", text="c", better={"look": better}, than={"look": than}, **aim)


def test_a_claim_is_judged_by_its_smallest_step_seed_by_seed() -> None:
    values = {"low": seeds(10.0, 20.0, 30.0), "high": seeds(15.0, 26.0, 37.0), "highest": seeds(35.0, 46.0, 57.0)}
    rising = Rising(kind="rising", text="c", along=("look",), min=3)
    found = judged_of(rising, values)
    assert (found.value, found.holds, found.figure) == (6.0, True, "6.00 ± 1.00 [3.52, 8.48] points of mIoU (3 seeds)")
    # The best of all: against every other place, of which the nearest decides.
    assert judged_of(Difference(kind="difference", text="c", better={"look": "highest"}), values).value == 20
    assert judged_of(difference(min=5, min_standard_deviations=7), values).holds is False
    assert judged_of(difference(min=5, min_standard_deviations=6), values).holds is True
    assert judged_of(difference(min=8, min_standard_deviations=2), values).holds is False
    assert judged_of(rising.model_copy(update={"at": {"look": ["low", "highest"]}}), values).value == 26


def test_equal_rows_are_not_better_than_each_other() -> None:
    values = {"low": seeds(0.0, 0.0, 0.0), "high": seeds(0.0, 0.0, 0.0)}
    for aim in ({}, {"min_standard_deviations": 2}, {"min": 1}):
        assert judged_of(difference(**aim), values).holds is False, aim
    # But for noise: nothing is lost.
    assert judged_of(difference(min_standard_deviations=-1), values).holds is True


def test_a_bound_inside_the_interval_is_not_decided() -> None:
    """Student's quantile for three seeds is 4.303, so that the interval of 6.00 ± 1.00 is 6 ± 4.303/√3."""
    values = {"low": seeds(10.0, 20.0, 30.0), "high": seeds(15.0, 26.0, 37.0)}
    for least, holds in ((3.51, True), (3.52, None), (8.48, None), (8.49, False)):
        found = judged_of(difference(min=least), values)
        assert (found.value, found.holds) == (6.0, holds)
        assert found.undecided == (
            None if holds is not None else "the bound lies inside a 95 % interval; run more seeds"
        )
    # Of several differences all have to be sure, and one that is too small is enough against a claim.
    values["unsure"] = seeds(10.0, 30.0, 60.0)
    both = Difference(kind="difference", text="c", better={"look": ["high", "unsure"]}, than={"look": "low"})
    found = judged_of(both, values)
    assert (found.holds, found.shown) == (None, "13.33 ± 15.28 [-24.61, 51.28] points of mIoU (3 seeds)")
    assert judged_of(both.model_copy(update={"min": 9}), values).holds is False


def test_an_axis_that_a_claim_does_not_name_is_the_same_on_both_sides() -> None:
    """What is trained is compared at each text, and not one text with another."""
    means = {"full": (25.0, 44.0), "frozen": (22.0, 38.0)}
    rows, columns = Side.of(["trainable"], {"trainable": (*means,)}), Side.of(["text"], {"text": ("none", "oracle")})
    entries = tuple(
        tuple(TableEntry(row, "", "miou", (mean,) * 3, 3, None, (), seeds=(0, 1, 2)) for mean in own)
        for row, own in means.items()
    )
    filled = Table(TableSpec("", ("miou",), rows, columns), entries, ())
    claim = Difference(kind="difference", text="c", better={"trainable": "full"}, than={"trainable": "frozen"})
    assert judged_of(claim, filled).value == 3
    across = claim.model_copy(update={"better": {"trainable": "full", "text": "none"}})
    assert judged_of(across, filled).value == 25 - 38


def test_noise_excuses_as_much_as_it_moves_a_difference() -> None:
    noisy = {"low": seeds(10.0, 10.0, 10.0), "high": seeds(11.0, 8.0, 9.5)}
    assert judged_of(difference(min_standard_deviations=-1), noisy).holds is True
    steady = {"low": seeds(10.0, 10.0, 10.0), "high": seeds(9.6, 9.5, 9.4)}
    assert judged_of(difference(min_standard_deviations=-1), steady).holds is False


@pytest.mark.parametrize(
    ("deviations", "other", "shown"),
    [
        (2, seeds(11.0, 15.0, 22.0), "6.00 ± 5.57"),
        (-1, seeds(9.94, 9.95, 9.96), "-0.05 ± 0.01"),
    ],
)
def test_every_difference_is_judged_by_its_own_spread(deviations: int, other: dict[int, float], shown: str) -> None:
    """And the one that decides is shown, whichever has the smallest mean."""
    first = {2: seeds(14.9, 15.0, 15.1), -1: seeds(8.05, 9.9, 11.75)}[deviations]
    values = {"low": seeds(10.0, 10.0, 10.0), "high": first, "other": other}
    assert judged_of(difference(min_standard_deviations=deviations), values).holds is True
    found = judged_of(
        Difference(
            kind="difference",
            text="c",
            better={"look": ["high", "other"]},
            than={"look": "low"},
            min_standard_deviations=deviations,
        ),
        values,
    )
    assert found.holds is False and found.shown.startswith(shown)


def test_less_of_an_error_is_better() -> None:
    values = table({"low": seeds(0.5, 0.6, 0.7), "high": seeds(0.25, 0.25, 0.25)}, "rmse")
    found = judged_of(difference(min=0.1), values)
    assert (
        found.value == pytest.approx(0.35)
        and found.holds
        and found.figure == "0.350 ± 0.100 [0.102, 0.598] m of RMSE (3 seeds)"
    )
    assert unit_of("rmse/multi_scale") == "m of RMSE, several scales" and unit_of("abs_rel") == "of relative error"
    assert unit_of("miou/multi_scale") == "points of mIoU, several scales" and unit_of("miou/night") == "points of mIoU"
    # With one digit the difference would be shown as nothing.
    found = judged_of(difference(min=0.03), table({"low": seeds(*[0.341] * 3), "high": seeds(*[0.301] * 3)}, "rmse"))
    assert found.sentence == "c (0.040 ± 0.000 [0.040, 0.040] m of RMSE (3 seeds); at least 0.03): holds"


def test_a_claim_with_a_missing_place_is_not_decided() -> None:
    alone = judged_of(difference(), {"low": seeds(1.0, 2.0, 3.0)})
    assert (alone.holds, alone.undecided, alone.value, alone.shown) == (None, None, None, "–")
    assert alone.sentence == "c (–; at least 0): not decided: not measured"
    elsewhere = difference().model_copy(update={"than": {"experiment": "prec_recall"}})
    assert judged_of(elsewhere, {"high": seeds(1.0, 2.0, 3.0)}).verdict == "not decided: not measured"


def test_tables_of_other_settings_are_not_compared() -> None:
    own, other = table({"high": seeds(9.0, 9.0, 9.0)}), table({"low": seeds(1.0, 1.0, 1.0)})
    claim = difference().model_copy(update={"than": {"experiment": "prec_recall"}})
    assert judge(claim, lambda name: other if name else own).holds is True
    shorter = replace(other, spec=replace(other.spec, settings="schedule.iterations=20"))
    assert judge(claim, lambda name: shorter if name else own).verdict == (
        "not decided: the newest sweeps have other settings: schedule.iterations=20; none"
    )


def test_tables_of_one_recipe_that_was_edited_between_are_not_compared(make_cell) -> None:
    own, other = table({"high": seeds(9.0, 9.0, 9.0)}), table({"low": seeds(1.0, 1.0, 1.0)})
    claim = difference().model_copy(update={"than": {"experiment": "prec_recall"}})
    cell = make_cell()
    schedule = cell.recipe.schedule.model_copy(update={"learning_rate": 0.5})
    edited = cell.model_copy(update={"recipe": cell.recipe.model_copy(update={"schedule": schedule})})
    rate = cell.recipe.schedule.learning_rate
    replaced = cell.model_copy(update={"digests": {**cell.digests, "val": "f" * 64}})
    for cells, told in (
        (
            (edited,),
            f"the newest sweeps have other settings: schedule.learning_rate 0.5; schedule.learning_rate {rate}",
        ),
        (
            (replaced,),
            f"the newest sweeps have other settings: hash of val data ffffffff; hash of val data {cell.digests['val'][:8]}",
        ),
        ((edited, cell), None),  # it varies there
        ((cell,), None),
    ):
        tables = replace(own, cells=(cell,)), replace(other, cells=cells)
        assert judge(claim, lambda name, tables=tables: tables[name is not None]).undecided == told


def test_fewer_than_three_seeds_decide_nothing_and_one_has_no_spread() -> None:
    """One seed is no proof that seeds do not differ: neither a claim that it would hold nor one that it would not."""
    one = {"low": {5: 10.0}, "high": {5: 17.4}}
    for claim in (difference(min=8, min_standard_deviations=5), difference()):
        found = judged_of(claim, one)
        assert (found.holds, found.undecided, found.shown) == (
            None,
            "run --seeds 0,1,2",
            "7.40 points of mIoU (1 seed)",
        )
    two = judged_of(difference(), {"low": seeds(10.0, 10.0), "high": seeds(11.0, 13.0)})
    assert (two.holds, two.undecided) == (None, "run --seeds 0,1,2")
    assert two.shown == "2.00 ± 1.41 points of mIoU (2 seeds)"


def test_places_of_other_seeds_are_compared_by_those_that_they_share() -> None:
    """One place was filled by more seeds than another, or by others."""
    low, high = {0: 10.0, 1: 20.0, 2: 30.0, 3: 99.0}, {3: 101.0, 2: 33.0, 1: 24.0, 4: 0.0}
    found = judged_of(difference(), {"low": low, "high": high})
    assert (found.value, found.holds, found.shown) == (3.0, True, "3.00 ± 1.00 [0.52, 5.48] points of mIoU (3 seeds)")
    # The smallest step has three seeds, another one fewer.
    claim = Difference(kind="difference", text="", better={"look": ["high", "highest"]}, than={"look": "low"})
    found = judged_of(claim, {"low": low, "high": high, "highest": {0: 50.0}})
    assert (found.value, found.holds, found.undecided) == (3.0, None, "run --seeds 0,1,2")
    apart = judged_of(difference(), {"low": {0: 1.0}, "high": {1: 2.0}})
    assert (apart.holds, apart.value) == (None, None)
    assert apart.verdict == "not decided: its entries share no seed; run --seeds 0,1,2"


def test_an_order_is_held_against_the_published_one() -> None:
    values = {name: seeds(*[mean] * 3) for name, mean in zip("abcd", (1.0, 3.0, 2.0, 4.0), strict=True)}
    claim = Ranking(kind="ranking", text="ordered so", min=0.7)
    found = judged_of(claim, table(values, published=(10.0, 20.0, 30.0, 40.0)))
    assert found.value == pytest.approx(0.8) and found.holds
    assert found.shown == "rank correlation 0.80 over 4 entries (3 seeds)"
    high = claim.model_copy(update={"min": 0.9})
    assert judged_of(high, table(values, published=(10.0, 20.0, 30.0, 40.0))).holds is False
    few = {name: {0: own[0]} for name, own in values.items()}
    for fewer in (few, {**values, "b": few["b"]}):
        assert judged_of(claim, table(fewer, published=(10.0, 20.0, 30.0, 40.0))).undecided == "run --seeds 0,1,2"
    assert judged_of(claim, table(values)).verdict == "not decided: not measured"


def test_entries_of_the_same_trainings_count_once() -> None:
    """As VPD A32 and VPD(R) in Table S1."""
    made = table(
        {"a": seeds(1.0, 2.0, 3.0), "b": seeds(1.0, 2.0, 3.0), "c": seeds(4.0, 5.0, 6.0)}, "miou", (1.0, 1.1, 3.0)
    )
    runs = (("x", "y", "z"), ("x", "y", "z"), ("u", "v", "w"))
    entries = tuple(replace(entry, run_ids=own) for entry, own in zip(made.entries[0], runs, strict=True))
    twins = replace(made, entries=(entries,))
    ranking = Ranking(kind="ranking", text="ordered so", min=0.7)
    assert (
        judged_of(ranking, made).value is not None and judged_of(ranking, twins).verdict == "not decided: not measured"
    )
    best = Difference(kind="difference", text="c", better={"look": "a"}, than={"look": ["b", "c"]})
    assert judged_of(best, made).value == -3 == judged_of(best, twins).value
    same = Difference(kind="difference", text="c", better={"look": "a"}, than={"look": "b"})
    assert judged_of(same, made).holds is False and judged_of(same, twins).unmeasured


def test_numbers_of_several_metrics_are_neither_subtracted_nor_ordered() -> None:
    made = table({"a": seeds(1.0, 2.0, 3.0), "b": seeds(0.6, 0.7, 0.8)}, "rmse", (1.0, 2.0))
    mixed = replace(made, entries=((made.entries[0][0], replace(made.entries[0][1], metric="delta1")),))
    assert judged_of(difference(better="b", than="a"), mixed).unmeasured
    assert "several metrics" in judged_of(Ranking(kind="ranking", text="ordered so", min=0.7), mixed).verdict


@pytest.mark.parametrize(
    ("bound", "aim", "holds"),
    [
        ({"min": 2}, "at least 2", True),
        ({"min": 2.1}, "at least 2.1", False),
        ({"above": 2}, "above 2", False),
        ({"max": 2}, "at most 2", True),
        ({"max": 1.5}, "at most 1.5", False),
        ({"min_standard_errors": 3}, "above 3 standard errors, 1.5", True),
        ({"min_standard_errors": 4}, "above 4 standard errors, 2", False),
        ({"max_share": 0.25, "max_share_of": "whole"}, "at most 0.25 of whole, 2", True),
        ({"max_share": 0.2, "max_share_of": "whole"}, "at most 0.2 of whole, 1.6", False),
    ],
)
def test_a_measure_lies_on_its_side_of_a_bound(bound: dict, aim: str, holds: bool) -> None:
    measured = {"part": Measured(2.0, 40, "images", 0.5), "whole": Measured(8.0, 40)}
    (found,) = judge_measures([Measure(kind="measure", text="c", measure="part", **bound)], measured)
    assert (found.aim, found.holds, found.shown) == (aim, holds, "2 (40 images)")


def test_a_measure_that_is_no_number_is_not_decided() -> None:
    claim = Measure(kind="measure", text="c", measure="m", min=1)
    assert judge_measure(claim, {"m": Measured(math.nan, 5)}).verdict == "not decided: it is no number"


def test_measures_of_few_seeds_or_images_are_shown_and_not_decided() -> None:
    claim = Measure(kind="measure", text="c", measure="part", above=0)
    for measured, verdict in (
        ({"part": Measured(3.0, 2, "seeds")}, "not decided: needs 3 trained seeds, e.g. seeds: [0, 1, 2] in its file"),
        ({"part": Measured(3.0, 1, "cases")}, "not decided: needs 3 cases"),
        ({}, "not decided: not measured"),
        ({"part": Measured(3.0)}, "holds"),
    ):
        (found,) = judge_measures([claim], measured)
        assert found.verdict == verdict
    assert claims_summary(
        [found, found.model_copy(update={"holds": False}), found.model_copy(update={"holds": None})]
    ) == ("1 of 2 decided claims hold; not: c; 1 not decided: not measured.")


@pytest.mark.parametrize(
    ("by_seed", "verdict", "shown"),
    [
        ((5.0, 6.0, 7.0), "holds", "6 [3.516, 8.484] (3 seeds)"),
        (
            (1.0, 2.0, 3.0),
            "not decided: the bound lies inside a 95 % interval; run more seeds",
            "2 [-0.4841, 4.484] (3 seeds)",
        ),
        ((-7.0, -6.0, -5.0), "does not hold", "-6 [-8.484, -3.516] (3 seeds)"),
        ((5.0, 7.0), "not decided: needs 3 trained seeds, e.g. seeds: [0, 1, 2] in its file", "6 (2 seeds)"),
    ],
)
def test_a_mean_over_seeds_is_judged_by_its_interval(by_seed: tuple[float, ...], verdict: str, shown: str) -> None:
    mean = sum(by_seed) / len(by_seed)
    claim = Measure(kind="measure", text="c", measure="part", above=0)
    (found,) = judge_measures([claim], {"part": Measured(mean, len(by_seed), "seeds", by_seed=by_seed)})
    assert (found.verdict, found.shown) == (verdict, shown)


def test_a_share_that_only_the_ends_of_an_interval_exceed_is_not_decided() -> None:
    claim = Measure(kind="measure", text="c", measure="part", max_share=0.25, max_share_of="whole")
    measured = {"part": Measured(0.1, 3, "seeds", by_seed=(-7.9, 0.1, 8.1)), "whole": Measured(8.0)}
    assert judge_measures([claim], measured)[0].holds is None
    # A share is of the size, whatever the sign.
    assert judge_measures([claim], measured | {"part": Measured(-7.9)})[0].holds is False


def filled(experiment: ResolvedExperiment, asked: int = 3) -> Table:
    """A shipped table with the same number everywhere, of so many seeds; its published numbers stay."""
    spec = experiment.table("pocket", "pocket", "")
    numbers = spec.published or [[None] * len(spec.columns.names)] * len(spec.rows.names)
    entries = tuple(
        tuple(
            TableEntry(row, column, "miou", (50.0,) * asked, asked, number, (), seeds=tuple(range(asked)))
            for column, number in zip(spec.columns.names, own, strict=True)
        )
        for row, own in zip(spec.rows.names, numbers, strict=True)
    )
    return Table(spec, entries, ())


def sections(asked: int) -> list[ReportSection]:
    """The shipped tables that claims are about, filled alike."""
    return [
        ReportSection(name=name, key=name, title="", question="", command=name, table=filled(experiment, asked))
        for experiment in EXPERIMENTS
        for name in [experiment.file.stem]
    ]


def test_every_place_that_a_shipped_claim_names_is_in_a_shipped_table() -> None:
    (part,) = claim_sections(sections(3), EXPERIMENTS, "pocket")
    differences = [own for own in part.claims if own.value is not None]
    assert len(differences) == 52 and {own.value for own in differences} == {0}
    (half,) = [own for own in differences if own.text == "naming everything beats naming half"]
    assert (half.shown, half.aim) == ("0.00 ± 0.00 [0.00, 0.00] points of mIoU (3 seeds)", "at least 8 and 5 SD")
    assert {own.holds for own in differences} == {True, False}
    assert part.command.splitlines() == [
        *(
            "caption_noise",
            "caption_transfer",
            "contexts",
            "cross_domain_detection",
            "cross_domain_segmentation",
            "layers",
        ),
        *("noise_timesteps", "pocket_controls", "pocket_pretraining", "pocket_styles", "prec_recall", "sentence_kinds"),
        *("sentence_kinds_segmentation", "trainable"),
    ]


def test_a_sweep_without_a_file_of_the_report_has_its_own_claims() -> None:
    """They may be about the tables of other experiments, too."""
    own = next(one for one in EXPERIMENTS if one.file.stem == "caption_noise")
    every = sections(3)
    (mine,) = [each for each in every if each.name == "caption_noise"]
    others = [each for each in every if each.name != "caption_noise"]
    (together,) = claim_sections(every, [own], "pocket")
    found = with_claims(mine, own, others)
    assert found.claims == together.claims and together.claims and found.state == mine.state == "complete"


def test_the_report_says_that_one_seed_decides_nothing() -> None:
    (part,) = claim_sections(sections(1), EXPERIMENTS, "pocket")
    assert part.missing is None and part.state == "0 of 53 claims; 52 not decided: run --seeds 0,1,2"
    assert part.summary == (
        "0 of 0 decided claims hold; 52 not decided: run --seeds 0,1,2; 1 not decided: not measured.",
    )
    assert list(claim_sections([], [], "pocket")) == []
    (missing,) = claim_sections([], EXPERIMENTS, "pocket")
    assert missing.missing == "no table is complete"


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (
            "{kind: difference, text: c, better: {caption.precison: 1.0}}",
            "claims[0]: 'caption.precison': not an axis of the table; did you mean 'caption.precision'?",
        ),
        (
            "{kind: rising, text: c, along: [caption.recal]}",
            "claims[0]: 'caption.recal': not an axis of the table; did you mean 'caption.recall'?",
        ),
        (
            "{kind: difference, text: c, better: {caption.precision: 0.7}}",
            "claims[0]: caption.precision=0.7: not on that axis; did you mean '0.75'?",
        ),
        (
            "{kind: difference, text: c, better: {experiment: pocket_control}}",
            "pocket_control: neither a file nor a shipped experiment",
        ),
        (
            "{kind: rising, text: c, along: [caption.recall], min: 1, min_standard_deviations: -1}",
            "min: 1 does not go with min_standard_deviations: -1, which allows a loss",
        ),
        ("{kind: difference, text: c, better: {}, minn: 1}", "claims[0].minn=1: unknown key; did you mean 'min'?"),
        (
            "{kind: ranked, text: c}",
            "claims[0]: unknown kind 'ranked'; expected one of 'difference', 'rising', 'ranking'",
        ),
    ],
)
def test_a_claim_about_what_no_table_has_is_refused(claim: str, said: str, tmp_path: Path) -> None:
    text = (FILES / "prec_recall.yaml").read_text().partition("claims:")[0]
    for name in ("recipes/pocket_segmentation", "recipes/ade20k_fast_4k_oracle", "../sweeps/caption_precision_recall"):
        text = text.replace(f"{name}.yaml", Path(name).name)
    (tmp_path / "mine.yaml").write_text(f"{text}claims:\n  - {claim}\n")
    with pytest.raises(ConfigError) as refused:
        load_experiment(tmp_path / "mine.yaml")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("measure: moveed, min: 1", "copy_paste measures no 'moveed'; did you mean 'moved'?"),
        ("measure: moved", "one bound is needed: min, above, max, min_standard_errors, max_share"),
        ("measure: moved, min: 1, max: 2", "one bound is needed"),
        ("measure: moved, max_share: 0.5", "max_share and max_share_of belong together"),
        ("measure: moved, minn: 1", "claims[0].minn=1: unknown key; did you mean 'min'?"),
    ],
)
def test_a_claim_about_what_no_analysis_measures_is_refused(claim: str, said: str, tmp_path: Path) -> None:
    text = "question: q\nfigure: f\nrecipes: {pocket: pocket_segmentation}\nspec: {kind: copy_paste}\n"
    (tmp_path / "mine.yaml").write_text(f"{text}claims:\n  - {{kind: measure, text: c, {claim}}}\n")
    with pytest.raises(ConfigError) as refused:
        load_analysis(tmp_path / "mine.yaml")
    assert said in str(refused.value)


def test_the_claims_that_the_documentation_shows_are_the_shipped_ones() -> None:
    rows = [line.strip("| ").split(" | ") for line in (FILES.parent / "docs/results.md").read_text().splitlines()]
    starts = [number + 2 for number, cells in enumerate(rows) if cells == ["claim", "points of mIoU", "aim"]]
    shown = {cells[0]: cells[2] for start in starts for cells in rows[start : rows.index([""], start)]}
    claims = [claim for own in EXPERIMENTS for claim in own.experiment.claims]
    texts = {claim.text + " (rank correlation)" * isinstance(claim, Ranking): claim for claim in claims}
    assert shown == {
        text: aim_text(claim.min, getattr(claim, "min_standard_deviations", 0)) for text, claim in texts.items()
    }
