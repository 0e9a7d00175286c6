"""Claims are judged by their smallest step, against their aim and the spread over seeds."""

from pathlib import Path

from tadp_ray.config.load import load_experiment, load_sweep
from tadp_ray.reporting.evidence import EXPERIMENTS, Claim, findings
from tadp_ray.reporting.report import ReportSection, evidence
from tadp_ray.reporting.table import Table, TableEntry, TableSpec

FILES = Path(__file__).resolve().parents[2] / "experiments"
LOW, HIGH, HIGHEST = (("table", "row", column) for column in "abc")


def seeds(*values: float) -> dict[int, float]:
    """Values of the seeds 0, 1 and so on."""
    return dict(enumerate(values))


def test_a_claim_is_judged_by_its_smallest_step_seed_by_seed():
    values = {LOW: seeds(10.0, 20.0, 30.0), HIGH: seeds(15.0, 26.0, 37.0), HIGHEST: seeds(35.0, 46.0, 57.0)}
    found = Claim("", [(LOW, HIGH), (HIGH, HIGHEST)], least=5).judge(values)
    assert (found.mean, found.sd, found.seeds, found.holds) == (6.0, 1.0, 3, True)
    assert not Claim("", [(LOW, HIGH)], least=7).judge(values).holds
    assert not Claim("", [(LOW, HIGH)], least=5, spreads=7).judge(values).holds


def test_noise_excuses_as_much_as_it_moves_a_difference():
    noisy = {LOW: seeds(10.0, 10.0, 10.0), HIGH: seeds(11.0, 8.0, 9.5)}
    assert Claim("", [(LOW, HIGH)], spreads=-1).judge(noisy).holds
    steady = {LOW: seeds(10.0, 10.0, 10.0), HIGH: seeds(9.6, 9.5, 9.4)}
    assert Claim("", [(LOW, HIGH)], spreads=-1).judge(steady).holds is False


def test_a_claim_with_a_missing_place_is_not_judged():
    alone = Claim("", [(LOW, HIGH)]).judge({LOW: seeds(1.0, 2.0, 3.0)})
    assert (alone.holds, alone.unjudged, alone.value) == (None, None, None)
    found = findings({"prec_recall": None})
    assert len(found) > 5 and {finding.holds for finding in found} == {None}


def test_fewer_than_three_seeds_judge_nothing_and_one_has_no_spread():
    """One seed is no proof that seeds do not differ: neither a claim that it would hold nor one that it would not."""
    one = {LOW: {5: 10.0}, HIGH: {5: 17.4}}
    for claim in (Claim("", [(LOW, HIGH)], least=8, spreads=5), Claim("", [(LOW, HIGH)])):
        found = claim.judge(one)
        assert (found.holds, found.unjudged, found.value) == (None, "run --seeds 0,1,2", "7.4 points of mIoU (1 seed)")
    two = Claim("", [(LOW, HIGH)]).judge({LOW: seeds(10.0, 10.0), HIGH: seeds(11.0, 13.0)})
    assert (two.holds, two.unjudged) == (None, "run --seeds 0,1,2")
    assert two.value == "2.0 ± 1.4 points of mIoU (2 seeds)"


def test_places_of_other_seeds_are_compared_by_those_that_they_share():
    """One table was filled by more seeds than another, or by others."""
    low, high = {0: 10.0, 1: 20.0, 2: 30.0, 3: 99.0}, {3: 101.0, 2: 33.0, 1: 24.0, 4: 0.0}
    found = Claim("", [(LOW, HIGH)]).judge({LOW: low, HIGH: high})
    assert (found.seeds, found.mean, found.sd, found.holds) == (3, 3.0, 1.0, True)
    # The smallest step has three seeds, another one fewer.
    found = Claim("", [(LOW, HIGH), (LOW, HIGHEST)]).judge({LOW: low, HIGH: high, HIGHEST: {0: 50.0}})
    assert (found.mean, found.holds, found.unjudged) == (3.0, None, "run --seeds 0,1,2")
    apart = Claim("", [(LOW, HIGH)]).judge({LOW: {0: 1.0}, HIGH: {1: 2.0}})
    assert (apart.holds, apart.value) == (None, None)
    assert apart.unjudged == "its places share no seed; run --seeds 0,1,2"


def filled(name: str, asked: int = 3) -> Table:
    """A shipped table with the same number everywhere, of so many seeds."""
    experiment = load_experiment(FILES / f"{name}.yaml")
    spec = TableSpec.of(experiment, load_sweep(FILES / experiment.sweep), "pocket")
    entries = tuple(
        tuple(
            TableEntry(row, column, "miou", (50.0,) * asked, asked, None, (), seeds=tuple(range(asked)))
            for column in spec.columns.names
        )
        for row in spec.rows.names
    )
    return Table(spec, entries, ())


def test_every_place_that_a_claim_names_is_in_a_shipped_table():
    found = findings({name: filled(name) for name in EXPERIMENTS})
    assert [finding.claim for finding in found if finding.mean != 0] == []
    (half,) = [finding for finding in found if finding.claim == "naming everything beats naming half"]
    assert (half.value, half.aim) == ("0.0 ± 0.0 points of mIoU (3 seeds)", "at least 8 and 5 SD")
    assert {finding.holds for finding in found} == {True, False}
    single = findings({name: filled(name, 1) for name in EXPERIMENTS})
    assert {(own.holds, own.unjudged, own.value) for own in single} == {
        (None, "run --seeds 0,1,2", "0.0 points of mIoU (1 seed)")
    }


def test_the_report_says_that_one_seed_judges_nothing():
    parts = [ReportSection(name=name, title="", question="", command="", table=filled(name, 1)) for name in EXPERIMENTS]
    (part,) = evidence(parts)
    assert part.missing is None and part.state == "0 of 11 claims; 11 not judged: run --seeds 0,1,2"
    assert part.said == ("0 of 0 judged claims hold; 11 not judged: run --seeds 0,1,2.",)
