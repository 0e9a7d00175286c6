"""The card says what the journal and the gate say."""

import json
from pathlib import Path

from tadp_ray.config.claims import Measured
from tadp_ray.config.pretraining import Pretraining
from tadp_ray.paper.pocket.card import write_card
from tadp_ray.paper.pocket.gate import TIMES, WRONG_CAPTIONS
from tadp_ray.paper.pocket.report import AIMS
from tadp_ray.reporting.claims import judge_measures

FIGURES = {
    **{f"caption/{kind} t={time}": time / 100 for kind in WRONG_CAPTIONS for time in TIMES},
    **{"attention/pointing": 91.24, "attention/chance": 6.0, "attention/average_precision": 77.7},
    **{"drawing/found": 55.5, "drawing/found_unnamed": 1.0, "classifier/precision": 96.0, "classifier/recall": 95.0},
    **{"psnr": 30.1, "parameters": 7_700_000.0},
}


def test_card_tells_how_it_was_made_and_what_the_gate_found(tmp_path: Path) -> None:
    # Two hours of work with a night between them, in which the code was changed.
    lines = [("started", 0), ("metrics", 3600), ("started", 50_000), ("started", 50_000), ("finished", 53_600)]
    records = [{"type": kind, "time": second, "step": 1, "metrics": {}} for kind, second in lines]
    for record, commit in zip((records[0], *records[2:4]), ("abc", "abc+dirty", "abc"), strict=True):
        record["provenance"] = {"tadp.commit": commit, "tadp.version.torch": "2.15.0", "tadp.version.ray": "2.50"}
    (tmp_path / "journal.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    plan = Pretraining(seed=4, unet_steps=100, unet_batch=10)
    verdicts = judge_measures(AIMS, {name: Measured(value) for name, value in FIGURES.items()})
    write_card(tmp_path, tmp_path, plan, FIGURES, verdicts, {"vae_steps": 9, "start": Path("my model")})
    card = (tmp_path / "README.md").read_text()
    assert "- time: 2.0 hours\n- commit: abc, then abc+dirty\n- version.torch: 2.15.0\n\n" in card
    assert "7.7 million parameters" in card
    assert "\ntadp-ray pocket pretrain FOLDER --vae-steps 9 --start 'my model'\n" in card
    assert "1,000 drawn for the U-Net" in card and "48 things in subgroups" in card and "55 class names" in card
    assert (
        "(cow, horse, sheep, pig; tiger, elephant," in card and "house, church, castle, factory; chair, couch" in card
    )
    assert "| look-alike | +3.0% | +5.0% | +7.0% |" in card
    assert "highest on the thing (%) | 91.2 | at least 80 | met |" in card
    assert (
        "names that are not in the text, the share that is found in the picture anyway (%) | 1.0 | at most 10" in card
    )
    assert "found in drawn pictures (%) | 55.5 | at least 80 | missed |" in card
    assert "$" not in card
