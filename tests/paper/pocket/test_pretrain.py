"""A pretraining makes a Stable Diffusion that diffusers loads, learns words, and survives being killed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from tadp_ray.config.pretraining import Pretraining
from tadp_ray.data.scenes import CLASSES
from tadp_ray.errors import UserError
from tadp_ray.layout import PRETRAINING_FOLDER
from tadp_ray.paper.pocket import pretrain as pretrain_module
from tadp_ray.paper.pocket.latent_cache import SceneCaptions
from tadp_ray.paper.pocket.pretrain import pretrain
from tadp_ray.paper.pocket.tokenizer import write_tokenizer
from tadp_ray.training.checkpoint import read_tensors, write
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.journal import final_metrics, read_journal
from tadp_ray.training.reporter import Journal, checkpoints

TINY = {"images": 48, "size": 32, "vae_steps": 6, "vae_batch": 4, "unet_steps": 6, "unet_batch": 4}
TINY |= {"classifier_steps": 2, "channels": (8, 8, 16, 16), "gate_every": 4}
SHORT = Pretraining(
    channels=(16, 32, 32, 48),
    images=256,
    size=32,
    vae_steps=100,
    vae_batch=8,
    unet_steps=150,
    unet_batch=16,
    classifier_steps=1,
    gate_every=150,
)


def losses(folder: Path) -> dict[tuple[str, int], float]:
    """The last loss that the journal holds for each stage and step."""
    found = {}
    for record in read_journal(folder / PRETRAINING_FOLDER):
        for name, value in record.get("metrics", {}).items():
            if name.endswith("/loss"):
                found[name, record["step"]] = value
    return found


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short pretraining by two processes."""
    folder = tmp_path_factory.mktemp("pretrained")
    pretrain(SHORT, folder, processes=2, device="cpu")
    return folder


@pytest.mark.slow
def test_two_processes_make_a_stable_diffusion_that_diffusers_loads(pretrained: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(pretrained, safety_checker=None)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.tokenizer.model_max_length == 77
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a photo of a car and sand", num_inference_steps=2, output_type="np").images
    assert image.shape == (1, 32, 32, 3)
    assert sorted(path.name for path in (pretrained / PRETRAINING_FOLDER).iterdir()) == ["journal.jsonl", "lock"]
    gates = final_metrics(pretrained / PRETRAINING_FOLDER, SHORT.fingerprint)
    assert {"caption/look-alike t=500", "attention/pointing", "drawing/found", "psnr"} <= gates.keys()


@pytest.mark.slow
def test_a_short_pretraining_learns_what_some_words_mean(pretrained: Path) -> None:
    """A stated minimum after 150 steps: a wrong ground raises the loss at t=500 by 4 %, no text by 2 %."""
    figures = final_metrics(pretrained / PRETRAINING_FOLDER, SHORT.fingerprint)
    assert figures["caption/wrong ground t=500"] > 4 and figures["caption/null t=500"] > 2, figures


# One process has prepared, and its children, of which nothing was computed before, train. The gate measures few scenes with few
# drawing steps.
KILLED = """
import json, os, signal, sys, traceback
from pathlib import Path
from tadp_ray.config.pretraining import Pretraining
from tadp_ray.paper.pocket import pretrain
from tadp_ray.paper.pocket.pretrain import PRETRAINING_FOLDER, gate
from tadp_ray.training import loop
pretrain.CHECKPOINT_EVERY, loop.LOG_EVERY, gate.DRAWING_STEPS = 2, 1, 1
pretrain.draw_words = lambda *_: None
held_out, report = gate.held_out, pretrain.Journal.report
gate.held_out = lambda size: held_out(size, 16)

def train(folder, stage="", step=0):
    def tell(journal, at, metrics, checkpoint=None):
        report(journal, at, metrics, checkpoint)
        if checkpoint and checkpoint.stem == stage and at == step:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        code = 1
        try:
            pretrain.Journal.report = tell
            pretrain.pretrain(Pretraining(**json.loads(sys.argv[1])), folder, 1, "cpu")
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

whole, cut = map(Path, sys.argv[2:])
ended = [train(whole), train(cut, "vae", 2), train(cut, "unet", 4)]
torn = cut / PRETRAINING_FOLDER / "unet.safetensors"  # the one before is whole
torn.write_bytes(torn.read_bytes()[:-100])
sys.exit(json.dumps([*ended, train(cut)]))
"""


@pytest.mark.slow
def test_a_killed_pretraining_goes_on_with_the_same_losses(fork, tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    _, said = fork(tmp_path / "killed.py", json.dumps(TINY), tmp_path / "whole", tmp_path / "cut").end()
    assert said.splitlines()[-1] == "[0, -9, -9, 0]", said
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    cut, whole = (
        final_metrics(tmp_path / name / PRETRAINING_FOLDER, Pretraining(**TINY).fingerprint)
        for name in ("cut", "whole")
    )
    assert cut == whole and "psnr" in cut


def test_a_stage_whose_loss_is_no_number_ends_by_its_name_with_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain_module, "CHECKPOINT_EVERY", 1)
    plan, model = Pretraining(**TINY), torch.nn.Linear(2, 1)
    loss_at = lambda step: model.weight.square().sum() * (float("nan") if step == 2 else 1)
    with Journal(tmp_path / PRETRAINING_FOLDER, plan.fingerprint) as journal:
        job = pretrain_module.PretrainJob(plan, tmp_path, torch.device("cpu"), ProcessGroup(), journal, print)
        with pytest.raises(
            UserError, match="^vae, step 4: the loss is nan; begin again in another folder with another"
        ):
            pretrain_module.train(job, "vae", model, 30, 1e-3, loss_at)
    kept = checkpoints(tmp_path / PRETRAINING_FOLDER, "vae.safetensors")
    assert [read_tensors(path)[1]["step"] for path in kept] == [2, 1]


@pytest.mark.slow
def test_what_the_user_can_mend_is_told_by_several_processes_as_by_one(tmp_path: Path) -> None:
    """And scenes that were damaged are rendered afresh."""
    (tmp_path / PRETRAINING_FOLDER).mkdir()
    (tmp_path / PRETRAINING_FOLDER / "scenes-000.safetensors").write_text("half")
    write(
        tmp_path / PRETRAINING_FOLDER / "vae.safetensors", {"a": torch.ones(1)}, {"fingerprint": "another", "step": 1}
    )
    with pytest.raises(UserError, match="vae.safetensors: checkpoint of another"):
        pretrain(Pretraining(**TINY), tmp_path, processes=2, device="cpu")
    assert read_tensors(tmp_path / PRETRAINING_FOLDER / "scenes-000.safetensors")[0]["images"].shape == (48, 32, 32, 3)


def test_what_does_not_fit_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not divide among 3 processes"):
        pretrain(Pretraining(), tmp_path, processes=3, device="cpu")
    (tmp_path / PRETRAINING_FOLDER).mkdir()
    (tmp_path / PRETRAINING_FOLDER / "journal.jsonl").write_text('{"type": "started", "fingerprint": "another"}\n')
    with pytest.raises(UserError, match="holds a pretraining with other settings"):
        pretrain(Pretraining(), tmp_path, processes=2, device="cpu")


def test_listed_words_are_single_tokens_and_any_text_survives(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path, model_max_length=77)
    for word in (*CLASSES, "children", "benches", "building", "pavement", "bicyclist", "photo"):
        assert len(tokenizer.tokenize(word)) == 1
    text = "zürich: 37 unlisted words & 日本"
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_pretraining_captions_are_of_every_kind_or_empty() -> None:
    rng, words = (
        np.random.default_rng(0),
        SceneCaptions(("sky", "sand", "car"), "a photo of a car on the left, on sand, with sky"),
    )
    captions = [words.draw(rng) for _ in range(1000)]
    kinds = {"empty": 0, "told": 0, "sentence": 0, "names": 0}
    for caption in captions:
        if not caption or caption == words.sentence:
            kinds["told" if caption else "empty"] += 1
            continue
        assert {*CLASSES} & set(caption.replace(",", "").split()) == {"sky", "sand", "car"}
        kinds["sentence" if caption.startswith("a photo of") else "names"] += 1
    assert kinds["empty"] == pytest.approx(100, abs=35) and min(kinds.values()) > 60
