"""Looks are learned into the files that diffusers reads, the same whether interrupted or not, and nothing else changes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from tadp_ray.backbones.latent.autoencoder import posterior_of
from tadp_ray.backbones.latent.denoising import NoiseSchedule
from tadp_ray.backbones.stable_diffusion.learned_tokens import LearnedToken, add_token, read_learned, write_learned
from tadp_ray.backbones.stable_diffusion.load import Diffusion, load_diffusion
from tadp_ray.backbones.stable_diffusion.text_to_image import load_text_to_image
from tadp_ray.conditioning.text_encoder import encode_prompts
from tadp_ray.data.pixels import to_tensor
from tadp_ray.errors import UserError
from tadp_ray.layout import LEARNED
from tadp_ray.paper.personalization.finetuner import Finetuner
from tadp_ray.paper.personalization.images import encode_pictures, read_style_images
from tadp_ray.paper.personalization.job import PersonalizationJob
from tadp_ray.paper.personalization.run import check_result, load_personalized, personalize
from tadp_ray.training.checkpoint import read_tensors
from tadp_ray.training.journal import final_metrics, read_journal
from tadp_ray.training.reporter import Journal, checkpoints

CPU = torch.device("cpu")
UNET = "unet/diffusion_pytorch_model.safetensors"
DREAMBOOTH = {
    "method": {
        "kind": "dreambooth",
        "prompt": "an image in sks style",
        "prior": {"images": 2, "prompt": "an image", "num_inference_steps": 2},
    },
    "schedule": {"max_grad_norm": 1.0, "learning_rate": 1e-3},
    "modifier": "a sks style painting of a {caption}",
}


def losses(job: PersonalizationJob) -> list[float]:
    """Every loss that was told, in order of steps."""
    told = {r["step"]: r["metrics"]["loss"] for r in read_journal(job.folder) if "loss" in r.get("metrics", {})}
    return [told[step] for step in sorted(told)]


def interrupt(job: PersonalizationJob, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Run a job until its forward pass number `after`, where it is stopped."""
    loss = Finetuner.loss

    def stopping(finetuner: Finetuner, number: int, *rest: object) -> torch.Tensor:
        if number == after:
            raise KeyboardInterrupt
        return loss(finetuner, number, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Finetuner, "loss", stopping)
        personalize(job, CPU)
    assert checkpoints(job.folder) and final_metrics(job.folder, job.fingerprint) is None


@pytest.mark.parametrize(
    "changes", [{}, pytest.param(DREAMBOOTH, marks=pytest.mark.slow)], ids=["textual_inversion", "dreambooth"]
)
def test_an_interrupted_personalization_gives_the_undisturbed_result(
    prepare: Callable[..., PersonalizationJob], monkeypatch: pytest.MonkeyPatch, changes: dict
) -> None:
    whole, stopped = prepare("whole", **changes), prepare("stopped", **changes)
    assert whole.fingerprint == stopped.fingerprint
    personalize(whole, CPU)
    interrupt(stopped, monkeypatch, after=5)
    personalize(stopped, CPU)
    name = LEARNED if not changes else UNET
    first, second = load_file(whole.folder / name), load_file(stopped.folder / name)
    assert all(torch.equal(first[key], second[key]) for key in first) and losses(whole) == losses(stopped)
    assert not checkpoints(stopped.folder) and (whole.folder / "samples.png").is_file()


def test_latents_are_scaled_and_of_each_picture_and_its_mirror_image(tiny_diffusion: Diffusion) -> None:
    """Of more pictures than are encoded at once."""
    pictures = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
    found = encode_pictures(tiny_diffusion.vae, pictures)
    for side, views in enumerate((pictures, [np.fliplr(picture) for picture in pictures])):
        posterior = posterior_of(tiny_diffusion.vae, torch.stack([to_tensor(view) for view in views]))
        torch.testing.assert_close(found.mean[side], posterior.mean * 0.18215)
        torch.testing.assert_close(found.std[side], posterior.std * 0.18215)


def test_what_is_no_number_ends_it_with_the_mend(prepare: Callable[..., PersonalizationJob]) -> None:
    job, vector = prepare(compute={"checkpoint_every": 1}), torch.nn.Parameter(torch.ones(3))
    loss_at = lambda number, count: vector.square().sum() * (float("nan") if number == 4 else 1)
    with Journal(job.folder, job.fingerprint) as journal:
        finetuner = Finetuner(job, None, None, None, None, CPU, journal)
        with pytest.raises(UserError, match=r"^step 4: the loss is nan; lower schedule.learning_rate=0.01$"):
            finetuner.learn(torch.nn.ParameterList([vector]), loss_at)
    assert [read_tensors(path)[1]["step"] for path in checkpoints(job.folder)] == [2, 1]


@pytest.mark.slow
def test_a_learned_token_is_what_diffusers_loads(
    prepare: Callable[..., PersonalizationJob], sd15: Path, tmp_path: Path
) -> None:
    job = prepare()
    metrics = personalize(job, CPU)
    assert metrics["vector_moved"] > 0.01
    whole = load_text_to_image(str(sd15))
    whole.save(tmp_path / "whole", tokenizer=sd15 / "tokenizer")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "whole", safety_checker=None)
    pipeline.load_textual_inversion(job.folder / LEARNED)
    diffusion, prompt = load_diffusion(str(sd15)), "a <noise> style photo of car grass"
    without = encode_prompts(diffusion.tokenizer, diffusion.text_encoder, ["a photo of car grass"])
    add_token(diffusion.tokenizer, diffusion.text_encoder, read_learned(job.folder / LEARNED), "here")
    ours = encode_prompts(diffusion.tokenizer, diffusion.text_encoder, [prompt])
    theirs, _ = pipeline.encode_prompt(prompt, CPU, 1, False)
    torch.testing.assert_close(ours, theirs)
    # Known words mean what they meant.
    assert torch.equal(without, encode_prompts(diffusion.tokenizer, diffusion.text_encoder, ["a photo of car grass"]))


@pytest.mark.slow
def test_dreambooth_writes_a_whole_model_of_which_the_unet_alone_changed(
    prepare: Callable[..., PersonalizationJob], sd15: Path
) -> None:
    job = prepare(**DREAMBOOTH)
    personalize(job, CPU)
    pipeline = StableDiffusionPipeline.from_pretrained(job.folder, safety_checker=None)
    assert type(pipeline.scheduler).__name__ == "PNDMScheduler"
    before, after = load_diffusion(str(sd15)), load_diffusion(str(job.folder))
    same = lambda part: all(
        torch.equal(old, getattr(after, part).state_dict()[name])
        for name, old in getattr(before, part).state_dict().items()
    )
    assert same("vae") and same("text_encoder") and not same("unet")
    assert not list(job.folder.glob("prior*"))


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, DREAMBOOTH], ids=["textual inversion", "DreamBooth"])
def test_a_gpu_learns_what_a_cpu_learns(
    changes: dict, prepare: Callable[..., PersonalizationJob], gpu: torch.device
) -> None:
    """The GPU is a pretended one."""
    there, here = prepare("gpu", **changes), prepare("cpu", **changes)
    personalize(there, gpu)
    personalize(here, CPU)
    assert losses(there) == pytest.approx(losses(here), rel=1e-4)


def test_published_files_are_read_without_running_code_in_them(tmp_path: Path) -> None:
    torch.save({"<comic>": torch.arange(8.0)[None]}, tmp_path / "learned_embeds-steps-3000.bin")
    learned = read_learned(tmp_path / "learned_embeds-steps-3000.bin")
    assert learned.token == "<comic>" and learned.vector.tolist() == list(range(8))
    torch.save({"<comic>": Path("x")}, tmp_path / "code.bin")
    with pytest.raises(
        UserError, match="code.bin: damaged, or contains more than tensors .*get it as .safetensors"
    ) as refused:
        read_learned(tmp_path / "code.bin")
    assert "weights_only" not in str(refused.value) and "trust" not in str(refused.value)
    for number, wrong in enumerate(({"a": torch.ones(8), "b": torch.ones(8)}, {"a": 3}, {1: torch.ones(8)}, [1], {})):
        torch.save(wrong, tmp_path / f"{number}.bin")
        with pytest.raises(
            UserError, match=f"{number}.bin: cannot be read as learned embeddings, .*export it as diffusers'"
        ):
            read_learned(tmp_path / f"{number}.bin")
    torch.save({"<comic>": torch.zeros(2, 8)}, tmp_path / "two.bin")
    with pytest.raises(UserError, match="holds 2 vectors of '<comic>'"):
        read_learned(tmp_path / "two.bin")


@pytest.mark.parametrize("name", ["my-style", None])
def test_an_embedding_of_automatic1111_is_read(tmp_path: Path, name: str | None) -> None:
    """Its word is its own name, or else its file's; several vectors are refused as anybody's are."""
    vector = torch.arange(8.0)
    held = {"string_to_token": {"*": 265}, "name": name, "step": 5000, "sd_checkpoint": None}
    params = lambda vectors: {"string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)})}
    torch.save(held | params(vector[None]), tmp_path / "comic.pt")
    learned = read_learned(tmp_path / "comic.pt")
    assert learned.token == (name or "comic") and torch.equal(learned.vector, vector)
    torch.save(held | params(torch.ones(3, 8)), tmp_path / "comic.pt")
    with pytest.raises(UserError, match="comic.pt: holds 3 vectors of .*; learn or fetch one of one vector"):
        read_learned(tmp_path / "comic.pt")
    save_file({"emb_params": vector[None]}, tmp_path / "comic.safetensors")
    assert read_learned(tmp_path / "comic.safetensors").token == "comic"


def test_what_is_predicted_follows_the_schedulers_configuration() -> None:
    clean, noise, times = torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 2.0), torch.tensor([500])
    of = lambda kind: NoiseSchedule(DDIMScheduler(prediction_type=kind)).target(clean, noise, times)
    scheduler = DDIMScheduler()
    share = scheduler.alphas_cumprod[500]
    assert torch.equal(of("epsilon"), noise) and torch.equal(of("sample"), clean)
    torch.testing.assert_close(of("v_prediction"), share.sqrt() * noise - (1 - share).sqrt() * clean)


def test_images_are_drawn_by_chance_and_brought_to_one_size(prepare: Callable[..., PersonalizationJob]) -> None:
    job = prepare()
    images = read_style_images(job.plan.images)
    assert images.pictures.shape == (3, 64, 64, 3) and images.digest() == read_style_images(job.plan.images).digest()
    cropped = read_style_images(job.plan.images.model_copy(update={"fit": "crop"}))
    assert not np.array_equal(cropped.pictures, images.pictures)
    assert read_style_images(job.plan.images.model_copy(update={"seed": 1})).digest() != images.digest()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": {"count": 5}}, r"images\.files=.*: 4 matching images .*images\.count asks for 5; add images"),
        (
            {"method": {"token": "night"}, "modifier": "night {caption}"},
            r"method\.token: the token 'night' exists already",
        ),
        (
            {"sample_modifier": "a <noise> style image of " + "a " * 80 + "{caption}"},
            r"sample_modifier: .* has 8\d tokens",
        ),
        ({"method": {"initializer_token": "unheardof"}}, r"method\.initializer_token='unheardof': \d tokens"),
        ({"samples": ["car " * 80]}, r"modifier: .* has 8\d tokens, of which this model's text encoder reads 75"),
        ({"method": {"prompts": ["a {token} photo " + "of a car " * 26]}}, r"method\.prompts: .* has 8\d tokens"),
        (
            {"method": {"prompts": ["a {token} photo of {caption}"]}},
            r"method\.prompts=.*: \{caption\} is in a prompt, but only",
        ),
        ({"weights": "nowhere/at/all"}, r"'nowhere/at/all': there is no such folder"),
    ],
)
def test_bad_input_is_named_before_compute_is_spent(
    prepare: Callable[..., PersonalizationJob], changes: dict, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        prepare(**changes)


def test_samples_may_have_another_wording(prepare: Callable[..., PersonalizationJob]) -> None:
    plain, other = prepare().plan, prepare(sample_modifier="a <noise> style image of a {caption}").plan
    assert plain.sampled_as == plain.modifier and other.sampled_as == "a <noise> style image of a {caption}"
    for wording, said in (("an image of {caption}", "does not hold the token <noise>"), ("a <noise>", "once")):
        with pytest.raises(ValidationError, match=f"sample_modifier: '{wording}' .*{said}"):
            prepare(sample_modifier=wording)


def test_a_folder_called_pocket_is_not_the_shipped_model(
    prepare: Callable[..., PersonalizationJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here/pocket").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert prepare(weights="pocket").plan.weights == "pocket"


def test_a_folder_is_not_overwritten_by_another_personalization(prepare: Callable[..., PersonalizationJob]) -> None:
    personalize(prepare(schedule={"iterations": 1}), CPU)
    with pytest.raises(UserError, match="of another training .* its settings, images, weights or code were others"):
        prepare(schedule={"iterations": 2})


def test_a_token_of_another_models_width_is_refused(sd15: Path, tmp_path: Path) -> None:
    write_learned(tmp_path / "wide.safetensors", LearnedToken("<night>", torch.zeros(768)))
    diffusion = load_diffusion(str(sd15))
    with pytest.raises(UserError, match="has 768 channels, this model's text encoder 24: it was learned with another"):
        add_token(diffusion.tokenizer, diffusion.text_encoder, read_learned(tmp_path / "wide.safetensors"), "here")


@pytest.mark.slow
def test_a_result_is_not_compared_with_another_model_and_is_missed_when_it_is_gone(
    prepare: Callable[..., PersonalizationJob], sd15: Path, tmp_path: Path
) -> None:
    weights = Path(shutil.copytree(sd15, tmp_path / "weights"))
    job = prepare("out", weights=str(weights))
    personalize(job, CPU)
    check_result(job)
    load_personalized(job.folder)
    scheduler = weights / "scheduler/scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("0.012", "0.02"))
    with pytest.raises(UserError, match=f"the schedule of {weights} changed since this was learned"):
        load_personalized(job.folder)
    (job.folder / LEARNED).unlink()
    with pytest.raises(UserError, match="learned_embeds.safetensors was made and is gone; delete .*/out, and the same"):
        check_result(job)


def test_a_noise_schedule_that_was_changed_since_is_not_learned_with(
    prepare: Callable[..., PersonalizationJob], sd15: Path, tmp_path: Path
) -> None:
    weights = Path(shutil.copytree(sd15, tmp_path / "weights"))
    job = prepare("out", weights=str(weights))
    scheduler = weights / "scheduler/scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("0.012", "0.02"))
    with pytest.raises(UserError, match="^schedule changed since this personalization was begun"):
        personalize(job, CPU)


def test_images_that_were_changed_since_are_not_learned_from(
    prepare: Callable[..., PersonalizationJob], photographs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photographs"
    shutil.copytree(photographs, folder)
    job = prepare("out", images={"files": f"{folder}/*.png"})
    shutil.copy(folder / "3.png", folder / "0.png")
    with pytest.raises(UserError, match="^images changed since this personalization was begun"):
        personalize(job, CPU)
    assert final_metrics(job.folder, job.fingerprint) is None
