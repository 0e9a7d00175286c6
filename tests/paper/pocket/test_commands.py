"""The commands refuse what they cannot do before anything is written, and overwrite nobody's model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tadp_ray.backbones.latent.weights import locate
from tadp_ray.config.pretraining import ImageEncoderTraining, Pretraining
from tadp_ray.layout import PRETRAINING_FOLDER
from tadp_ray.paper.pocket import gate
from tadp_ray.paper.pocket.gate import TIMES, WRONG_CAPTIONS
from tadp_ray.paper.pocket.pretrain import check_folder
from tadp_ray.paper.pocket.report import AIMS
from tests.fixtures.cli import invoke

FIGURES = {"parameters": 1.0, "psnr": 30.0, "attention/average_precision": 1.0, "attention/chance": 1.0}
FIGURES |= {"classifier/precision": 1.0, "classifier/recall": 1.0, **{aim.measure: 1.0 for aim in AIMS}}
FIGURES |= {f"caption/{kind} t={time}": 1.0 for kind in WRONG_CAPTIONS for time in TIMES}
SHORT = ("--images", 4, "--size", 32, "--vae-steps", 1, "--unet-steps", 1, "--batch", 2, "--processes", 1)


def refusal(*words: object) -> str:
    """The one message with which a command of the pocket world ends."""
    done = invoke("pocket", *words)
    assert done.exit_code == 2 and "Traceback" not in done.output, done.output
    return " ".join(done.stderr.split())


def contents(folder: Path) -> dict[Path, bytes]:
    """The files in a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped model, in a folder where nothing else is."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(locate("pocket"), tmp_path / "model"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretrain", "model", "--start", "./model", *SHORT], "model: is the model of --start model, which would be"),
        (["pretrain", "model", *SHORT], "model/model_index.json: is of a model that was not trained in this folder"),
        (["image-encoder", "model", "--images", 4, "--batch", 2, "--steps", 1, "--weights", "model"], "whose card"),
        (["image-encoder", "model/image_encoder", "--images", 4, "--batch", 2, "--steps", 1], "model.safetensors: is"),
    ],
)
def test_a_model_that_is_not_the_trainings_own_is_not_overwritten(model: Path, words: list[object], said: str) -> None:
    before = contents(model.parent)
    assert said in (found := refusal(*words)) and found.endswith("overwritten; name another folder")
    assert contents(model.parent) == before


def test_a_training_goes_on_in_its_own_folder_from_another_model(model: Path, tmp_path: Path) -> None:
    """Also where its model is already written."""
    plan, folder = Pretraining(), tmp_path / "own"
    (folder / PRETRAINING_FOLDER).mkdir(parents=True)
    shutil.copy(model / "model_index.json", folder)
    (folder / PRETRAINING_FOLDER / "journal.jsonl").write_text(
        f'{{"type": "started", "fingerprint": "{plan.fingerprint}"}}\n'
    )
    check_folder(plan, folder, model)


def test_the_card_of_a_finished_pretraining_is_written_once(tmp_path: Path, store) -> None:
    """Its owner may have edited it. An interrupted command may have left none."""
    work = tmp_path / "done" / PRETRAINING_FOLDER
    work.mkdir(parents=True)
    records = [{"type": "started", "fingerprint": Pretraining().fingerprint, "provenance": {"tadp.commit": "then"}}]
    records += [{"type": "finished", "step": 1, "metrics": FIGURES}]
    lines = [json.dumps({"time": 0.0, **record}) for record in records]
    (work / "journal.jsonl").write_text("\n".join([*lines, ""]))
    card, words = tmp_path / "done/README.md", ["pocket", "pretrain", str(tmp_path / "done")]
    for said in (None, "edited"):
        if said:
            card.write_text(said)
        done = invoke(*words, "--tracking-uri", store.uri)
        assert done.exit_code == 0, done.output
        assert card.read_text() == said if said else "- commit: then\n" in card.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretrain", "new", "--size", 48], "error: --size 48: expected a multiple of 32 from 32 to 128"),
        (["pretrain", "new", "--size", 160], "error: --size 160: expected a multiple of 32 from 32 to 128"),
        (
            ["pretrain", "new", "--seed", gate.SEED],
            "error: --seed 1000000: the scenes of seeds from 1000000 are those that",
        ),
        (
            ["pretrain", "new", "--seed", 2 * gate.SEED],
            "error: --seed 2000000: the scenes of seeds from 1000000 are those",
        ),
        (["image-encoder", "new", "--seed", 2**63], "--seed': Input should be less than or equal to 92"),
        (
            ["image-encoder", "new", "--images", 3],
            "error: --batch 128: a step needs as many different images, and there are 3",
        ),
        (["show", "."], "error: .: is a folder; name a PNG to write, e.g. scenes.png"),
        (["show", "made"], "error: made: is a folder; name a PNG to write, e.g. made/scenes.png"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[object], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("made").mkdir()
    assert said in refusal(*words)
    assert [*tmp_path.rglob("*")] == [tmp_path / "made"]


def test_the_largest_seed_is_one_of_every_random_number() -> None:
    torch.manual_seed(ImageEncoderTraining(text="a", seed=2**63 - 1).seed + 2)
    with pytest.raises(ValidationError, match="less than or equal to 9223372036854775807"):
        ImageEncoderTraining(text="a", seed=2**63)
