"""A pretraining makes a Stable Diffusion that diffusers loads, learns words, and survives being killed."""

import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from tadp_ray.backbones.families import load_generator
from tadp_ray.backbones.latent.weights import weights_digest
from tadp_ray.captions.describe import NUMBERS, Mention, plural
from tadp_ray.config.pretraining import Pretraining
from tadp_ray.data import drawings
from tadp_ray.data.scenes import CLASSES, STUFF, THINGS, WORLD, mentions, present_classes, render
from tadp_ray.data.styles import STYLES
from tadp_ray.errors import UserError
from tadp_ray.layout import PRETRAINING_FOLDER
from tadp_ray.paper.pocket import denoiser as denoiser_module
from tadp_ray.paper.pocket import gate
from tadp_ray.paper.pocket import pretrain as pretrain_module
from tadp_ray.paper.pocket.autoencoder import build_vae, vae_loss
from tadp_ray.paper.pocket.denoiser import build_denoiser, caption_errors, copy_weights
from tadp_ray.paper.pocket.latent_cache import CLOSE_UP, CROWD, LatentCache, SceneCaptions, style_of
from tadp_ray.paper.pocket.pretrain import min_snr_weights, pretrain
from tadp_ray.paper.pocket.tokenizer import write_tokenizer
from tadp_ray.training.checkpoint import read_tensors, write
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.journal import final_metrics, read_journal
from tadp_ray.training.reporter import Journal, NullReporter, checkpoints

TINY = {"images": 48, "size": 32, "vae_steps": 6, "vae_batch": 4, "unet_steps": 6, "unet_batch": 4}
TINY |= {"classifier_steps": 2, "channels": (8, 8, 16, 16), "gate_every": 4}
SHORT = Pretraining(
    channels=(16, 32, 32, 48),
    images=256,
    size=32,
    vae_steps=60,
    vae_batch=8,
    unet_steps=400,
    unet_batch=16,
    classifier_steps=1,
    gate_every=1000,
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
def few_drawings() -> Iterator[None]:
    """Pictures are drawn in few steps, and none of words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "DRAWING_STEPS", 2)
        patch.setattr(pretrain_module, "draw_words", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def pretrained(few_drawings: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short pretraining."""
    folder = tmp_path_factory.mktemp("pretrained")
    pretrain(SHORT, folder, processes=1, device="cpu")
    return folder


@pytest.mark.slow
def test_a_pretraining_makes_a_stable_diffusion_that_diffusers_loads(pretrained: Path) -> None:
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
@torch.no_grad()
def test_a_short_pretraining_learns_what_some_words_mean(pretrained: Path) -> None:
    """A minimum after 400 steps: another scene's caption raises the loss at t=900 by 1 %, and no text at t=700 by 0.3 %."""
    figures = final_metrics(pretrained / PRETRAINING_FOLDER, SHORT.fingerprint)
    assert figures["caption/null t=700"] > 0.3, figures
    model, scenes = load_generator(str(pretrained)), gate.held_out(SHORT.size)
    clean = scenes.latents(model.diffusion.vae)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    others = [*scenes.names[1:], scenes.names[0]]
    own, wrong = (
        caption_errors(model, clean, noise, torch.full((len(clean),), 900), [gate.class_list(names) for names in named])
        for named in (scenes.names, others)
    )
    assert wrong.mean() > 1.01 * own.mean()


@pytest.mark.slow
def test_a_model_is_trained_on_with_its_vae_from_its_weights(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = gate.held_out
    monkeypatch.setattr(gate, "held_out", lambda size: held_out(size, 16))
    start = weights_digest(str(pretrained))
    plan = Pretraining(**{**TINY, "channels": SHORT.channels}, start=start, seed=1)
    pretrain(plan, tmp_path / "on", processes=1, device="cpu", start=pretrained)
    (vae,) = (pretrained / "vae").glob("*.safetensors")
    assert (tmp_path / "on/vae" / vae.name).read_bytes() == vae.read_bytes()
    before, after = losses(pretrained), losses(tmp_path / "on")
    assert not any(name == "vae/loss" for name, _ in after)
    assert after["unet/loss", 6] < 0.9 * before["unet/loss", 10]
    assert weights_digest(str(tmp_path / "on")) != start


@pytest.mark.slow
def test_a_gpu_pretrains(
    few_drawings: None, gpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pretended one; it encodes in bfloat16, so its losses are not a CPU's."""
    held_out = gate.held_out
    monkeypatch.setattr(gate, "held_out", lambda size: held_out(size, 16))
    pretrain(Pretraining(**TINY), tmp_path, processes=1, device="cuda")
    assert {name for name, _ in losses(tmp_path)} == {"vae/loss", "unet/loss", "classifier/loss"}


TWO = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from tadp_ray.config.pretraining import Pretraining
from tadp_ray.paper.pocket import pretrain
from tadp_ray.training import loop
loop.LOG_EVERY, pretrain.gate.DRAWING_STEPS = 1, 1
pretrain.draw_words = lambda *_: None
held_out = pretrain.gate.held_out
pretrain.gate.held_out = lambda size: held_out(size, 16)
dist.init_process_group("gloo")
plan, size = Pretraining(**json.loads(sys.argv[1])), dist.get_world_size()
pretrain._worker(dist.get_rank(), plan, Path(sys.argv[2], str(size)), None, size, "cpu", None)
"""


@pytest.mark.slow
def test_two_processes_pretrain_like_one(distributed, tmp_path: Path) -> None:
    """Their sums are made in another order, which AdamW's first steps enlarge."""
    (tmp_path / "two.py").write_text(TWO)
    for size in (1, 2):
        distributed(size, tmp_path / "two.py", json.dumps(TINY), tmp_path)
    one, two = (losses(tmp_path / str(size)) for size in (1, 2))
    assert len(one) > 12 and two == pytest.approx(one, rel=0.03)
    for stage in ("vae", "classifier"):
        assert two[stage + "/loss", 1] == pytest.approx(one[stage + "/loss", 1], rel=1e-5)


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


@pytest.mark.slow
def test_a_pretraining_that_was_killed_before_its_last_record_goes_on_from_its_checkpoints(
    few_drawings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And after that record, a repeated command deletes what is left."""
    held_out = gate.held_out
    monkeypatch.setattr(gate, "held_out", lambda size: held_out(size, 16))
    plan, work = Pretraining(**TINY), tmp_path / PRETRAINING_FOLDER

    def killed(*_: object) -> None:
        raise InterruptedError

    def end() -> str:
        pretrain(plan, tmp_path, processes=1, device="cpu")
        return capsys.readouterr().out

    for module, name in ((Journal, "finish"), (pretrain_module, "delete_cache")):
        with monkeypatch.context() as patch, pytest.raises(InterruptedError):
            patch.setattr(module, name, killed)
            end()
        assert [path.name for path in work.glob("vae.safetensors")] and [*work.glob("scenes-*")]
    said = capsys.readouterr().out
    assert all(f"{stage}: goes on from step {steps}" in said for stage, steps in (("vae", 6), ("unet", 6)))
    assert not end() and not [*work.glob("*.safetensors")]


@pytest.mark.slow
def test_a_pretraining_that_is_told_to_stop_ends_its_processes(tmp_path: Path) -> None:
    words = ["pocket", "pretrain", str(tmp_path / "told"), "--images", "48", "--size", "32", "--vae-steps", "100000"]
    command = [sys.executable, "-m", "tadp_ray", *words, "--processes", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as told:
        assert told.stdout
        next(line for line in told.stdout if "rendered" in line)
        workers = psutil.Process(told.pid).children(recursive=True)
        told.terminate()
        assert told.wait(60) == 130
    _, alive = psutil.wait_procs(workers, 10)
    assert len(workers) >= 2 and not alive


def test_a_stage_whose_loss_is_no_number_ends_by_its_name_with_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain_module, "CHECKPOINT_EVERY", 1)
    plan, model = Pretraining(**TINY), torch.nn.Linear(2, 1)
    loss_at = lambda step: model.weight.square().sum() * (float("nan") if step == 2 else 1)
    with Journal(tmp_path / PRETRAINING_FOLDER, plan.fingerprint) as journal:
        job = pretrain_module.PretrainJob(plan, tmp_path, None, torch.device("cpu"), ProcessGroup(), journal, print)
        with pytest.raises(
            UserError, match="^vae, step 4: the loss is nan; begin again in another folder with another"
        ):
            pretrain_module.train(job, "vae", model, 30, 1e-3, loss_at, evaluate_every=4)
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
    with pytest.raises(UserError, match="of another training .* give the settings that it was begun with"):
        pretrain(Pretraining(), tmp_path, processes=2, device="cpu")


def test_the_first_fifth_of_the_steps_shows_close_ups_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third scene is one. Scenes are told by their captions, which here are their numbers."""
    plan = Pretraining(**{**TINY, "unet_steps": 40, "unet_batch": 16})
    shown: list[set[int]] = []

    def run_all(*args: object, **_: object) -> None:
        for step in range(args[3]):
            args[5](step)

    def note(denoiser: object, clean: torch.Tensor, noise: object, times: object, captions: list[str]) -> torch.Tensor:
        shown.append({*map(int, captions)})
        # The latents are those of the same scenes.
        assert clean.mean((1, 2, 3)).tolist() == [*map(float, captions)]
        return torch.zeros(len(captions))

    monkeypatch.setattr(pretrain_module, "train", run_all)
    monkeypatch.setattr(pretrain_module, "caption_errors", note)
    numbers = [SimpleNamespace(draw=lambda rng, number=number: str(number)) for number in range(50)]
    latents = torch.arange(50.0)[:, None, None, None].expand(50, 4, 8, 8), torch.zeros(50, 4, 8, 8)
    job = pretrain_module.PretrainJob(plan, tmp_path, None, torch.device("cpu"), ProcessGroup(), NullReporter(), print)
    vae = build_vae(plan.size)
    pretrain_module.train_denoiser(job, SimpleNamespace(captions=lambda: numbers), vae, latents, held_out=None)
    close_ups = {*range(0, 50, 3)}
    assert len(shown) == 40 and set().union(*shown[:8]) == close_ups
    assert set().union(*shown[8:]) == {*range(50)} and not any(numbers <= close_ups for numbers in shown[8:])


def test_the_moving_average_keeps_no_graph_of_earlier_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def after_two_steps(*args: object, **_: object) -> None:
        _, _, model, _, _, _, after_step, _ = args
        after_step(1)
        after_step(2)
        assert not any(parameter.requires_grad for parameter in model["average"].parameters())
        assert all(parameter.requires_grad for parameter in model["trained"].parameters())

    monkeypatch.setattr(pretrain_module, "train", after_two_steps)
    plan, reporter = Pretraining(**TINY), NullReporter()
    job = pretrain_module.PretrainJob(plan, tmp_path, None, torch.device("cpu"), ProcessGroup(), reporter, print)
    latents = torch.zeros(2, 4, 8, 8), torch.zeros(2, 4, 8, 8)
    captions = SimpleNamespace(captions=lambda: [])
    pretrain_module.train_denoiser(job, captions, build_vae(plan.size), latents, held_out=None)


def test_the_vae_learns_in_bfloat16_where_that_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, found = build_vae(32, (8, 8, 16)), []
    vae.decoder.conv_out.register_forward_hook(lambda _, __, output: found.append(output.dtype))
    for capability in ("AVX512", "AVX2"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda told=capability: told)
        assert vae_loss(vae, torch.zeros(1, 3, 32, 32), torch.zeros(1, 4, 8, 8)).dtype == torch.float32
    assert found == [torch.bfloat16, torch.float32]


def test_nearly_clean_latents_count_little() -> None:
    found = min_snr_weights(torch.tensor([0.0, 1.0, 5.0, 45.0]))
    assert found.tolist() == pytest.approx([0, 1 / 2, 5 / 6, 5 / 46])
    snr = build_denoiser(build_vae(32), 32, (8, 8, 16, 16)).schedule.snr(torch.tensor([0, 999]))
    assert snr.tolist() == pytest.approx([1 / 0.00085 - 1, 0.0047], rel=0.01)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> LatentCache:
    """Sixty scenes of a pretraining, rendered."""
    cache = LatentCache(tmp_path_factory.mktemp("cache"), seed=7, count=60, size=32)
    cache.render(ProcessGroup(), lambda said: None)
    return cache


def test_a_pretraining_shows_the_known_styles_close_ups_and_crowds(cache: LatentCache) -> None:
    works = Counter(scene.work for scene in cache.captions())
    assert works == {"photo": 42, "night photo": 6, "watercolor": 6, "comic": 6}
    assert [STYLES[style_of(index)].work for index in range(60)] == [scene.work for scene in cache.captions()]
    for index, (image, mask, scene) in enumerate(zip(cache.images(), cache.masks(), cache.captions(), strict=True)):
        world = (CLOSE_UP, WORLD, CROWD)[index % 3]
        sample = render("pretrain", 7, index, 32, style_of(index), world)
        assert np.array_equal(image, sample.image) and np.array_equal(mask, sample.mask)
        assert scene.names == present_classes(sample.mask) and list(scene.things) == mentions(sample)
        assert index % 3 or len(scene.things) <= 2
    pixels = [(cache.masks()[first::3] >= len(STUFF)).sum().item() for first in range(3)]
    things = [sum(len(scene.things) for scene in cache.captions()[first::3]) for first in range(3)]
    assert pixels[0] / things[0] > 1.5 * pixels[1] / things[1]
    assert pixels[2] > 1.2 * pixels[1] and things[2] > 1.2 * things[1]


def test_a_pretraining_sees_no_drawing_whose_licence_would_bind_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the scenes nor in those of the gate: two styles stay unseen."""
    seen, stamp = set(), drawings.stamp
    monkeypatch.setattr(drawings, "stamp", lambda name, family: seen.add(family) or stamp(name, family))
    LatentCache(tmp_path, seed=7, count=60, size=32).render(ProcessGroup(), lambda said: None)
    gate.held_out(32, 20)
    assert seen == {*drawings.PERMISSIVE}
    assert {style for style, look in STYLES.items() if look.work is None} == {"sticker", "sketch"}
    assert all(({*look.families} <= {*drawings.PERMISSIVE}) == (look.work is not None) for look in STYLES.values())


def test_listed_words_are_single_tokens_and_any_text_survives(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path, model_max_length=77)
    things = [*THINGS, *itertools.chain(*drawings.SYNONYMS.values())]
    works = itertools.chain(*(look.work.split() for look in STYLES.values() if look.work))
    for word in (
        *CLASSES,
        *things,
        *map(plural, things),
        *works,
        *NUMBERS,
        "sticker",
        "sketch",
        "pavement",
        "bicyclist",
    ):
        assert len(tokenizer.tokenize(word)) == 1, word
    text = "zürich: 37 unlisted words & 日本"
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_weights_are_copied_into_a_model_with_other_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that both know keeps its embedding at its new place; a new one keeps its own."""
    vae = build_vae(32)
    target = build_denoiser(vae, 32, (8, 8, 16, 16)).diffusion
    monkeypatch.setattr(denoiser_module, "write_tokenizer", lambda folder: write_tokenizer(folder, ["lion", "car"]))
    source = build_denoiser(vae, 32, (8, 8, 16, 16)).diffusion
    before = target.text_encoder.get_input_embeddings().weight.detach().clone()
    copy_weights(source, target)
    old, new = (model.text_encoder.get_input_embeddings().weight for model in (source, target))
    at = lambda model, word: model.tokenizer.convert_tokens_to_ids(f"{word}</w>")
    for word in ("lion", "car"):
        assert at(source, word) != at(target, word)
        assert torch.equal(new[at(target, word)], old[at(source, word)])
    assert torch.equal(new[at(target, "owl")], before[at(target, "owl")])
    weights = [{**model.unet.state_dict(), **model.text_encoder.encoder.state_dict()} for model in (source, target)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_pretraining_captions_are_of_every_kind_or_empty() -> None:
    things = (Mention("car", 0.1, near=True), Mention("owl", 0.9, near=False))
    scene, rng = SceneCaptions(("sky", "sand", "owl", "car"), things, "night photo"), np.random.default_rng(0)
    captions = [scene.draw(rng) for _ in range(2000)]
    names = "(?:sky|sand|owl|car|automobile)"
    kinds = {
        "empty": "",
        "names": f"{names}(?: {names}){{3}}",
        "names in a phrase": f"a night photo of {names}(?: {names}){{3}}",
        "sentence": f"a night photo of (?:an? )?{names}, (?:an? )?{names}, (?:an? )?{names} and (?:an? )?{names}",
        "told": "a night photo of (?:a car|an automobile) on the left and an owl far away on the right, on sand, with sky behind",
    }
    counts = {kind: sum(bool(re.fullmatch(text, caption)) for caption in captions) for kind, text in kinds.items()}
    assert sum(counts.values()) == 2000
    shares = {"empty": 0.1, "names": 0.3, "names in a phrase": 0.15, "sentence": 0.25, "told": 0.2}
    # Three standard deviations at most.
    assert {kind: count / 2000 for kind, count in counts.items()} == pytest.approx(shares, abs=0.031)
    for caption in filter(None, captions):
        said = re.findall(r"\w+", caption)
        assert sum(said.count(word) for word in ("car", "automobile")) == 1, caption
        assert all(said.count(word) == 1 for word in ("sky", "sand", "owl")), caption
        assert re.search(r"\ban (?!owl|automobile)|\ba (?=owl|automobile)", caption.partition(" of ")[2]) is None
    calls = [caption for caption in captions if caption]
    assert np.mean(["automobile" in caption for caption in calls]) == pytest.approx(0.15, abs=0.026)
    # In most orders, another name is the first.
    first = Counter(caption.split()[0] for caption in captions if re.fullmatch(kinds["names"], caption))
    assert min(first[word] for word in ("sky", "sand", "owl")) > 100
    assert all(scene.draw(rng, drop=0.0) for _ in range(200))
