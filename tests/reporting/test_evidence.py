"""Claims are judged by their smallest step, against their aim and the spread over seeds."""

from pathlib import Path

from tadp_ray.config.load import load_experiment, load_sweep
from tadp_ray.reporting.evidence import EXPERIMENTS, Claim, findings
from tadp_ray.reporting.table import Entry, Table, TableSpec

FILES = Path(__file__).resolve().parents[2] / "experiments"
LOW, HIGH, HIGHEST = (("table", "row", column) for column in "abc")


def test_a_claim_is_judged_by_its_smallest_step_seed_by_seed():
    values = {LOW: (10.0, 20.0, 30.0), HIGH: (15.0, 26.0, 37.0), HIGHEST: (35.0, 46.0, 57.0)}
    found = Claim("", [(LOW, HIGH), (HIGH, HIGHEST)], least=5).judge(values)
    assert (found.mean, found.sd, found.seeds, found.holds) == (6.0, 1.0, 3, True)
    assert not Claim("", [(LOW, HIGH)], least=7).judge(values).holds
    assert not Claim("", [(LOW, HIGH)], least=5, spreads=7).judge(values).holds


def test_noise_excuses_as_much_as_it_moves_a_difference():
    noisy = {LOW: (10.0, 10.0, 10.0), HIGH: (11.0, 8.0, 9.5)}
    assert Claim("", [(LOW, HIGH)], spreads=-1).judge(noisy).holds
    steady = {LOW: (10.0, 10.0, 10.0), HIGH: (9.6, 9.5, 9.4)}
    assert Claim("", [(LOW, HIGH)], spreads=-1).judge(steady).holds is False


def test_a_claim_with_a_missing_place_is_not_judged():
    assert Claim("", [(LOW, HIGH)]).judge({LOW: (1.0,)}).holds is None
    found = findings({"prec_recall": None})
    assert len(found) > 5 and {finding.holds for finding in found} == {None}


def filled(name: str) -> Table:
    """A shipped table with the same number everywhere."""
    experiment = load_experiment(FILES / f"{name}.yaml")
    spec = TableSpec.of(experiment, load_sweep(FILES / experiment.sweep), "pocket")
    entries = tuple(
        tuple(Entry(row, column, "miou", (50.0, 50.0), 2, None, ()) for column in spec.columns.names)
        for row in spec.rows.names
    )
    return Table(spec, entries, ())


def test_every_place_that_a_claim_names_is_in_a_shipped_table():
    found = findings({name: filled(name) for name in EXPERIMENTS})
    assert [finding.claim for finding in found if finding.mean != 0] == []
    (half,) = [finding for finding in found if finding.claim == "naming everything beats naming half"]
    assert (half.value, half.aim) == ("0.0 ± 0.0 points of mIoU (2 seeds)", "at least 8 and 5 SD")
