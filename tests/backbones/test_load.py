"""Stable Diffusion loads from a folder, whole or not at all."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError
from safetensors.torch import load_file, save_file

from tadp_ray import hub
from tadp_ray.backbones.latent.denoising import load_schedule
from tadp_ray.backbones.latent.weights import weights_digest
from tadp_ray.backbones.stable_diffusion.load import Diffusion, load_diffusion
from tadp_ray.errors import UserError

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def test_all_networks_are_frozen_float32_in_evaluation_mode(tiny_diffusion: Diffusion) -> None:
    for network in (tiny_diffusion.vae, tiny_diffusion.unet, tiny_diffusion.text_encoder):
        assert not network.training
        assert {(p.dtype, p.requires_grad) for p in network.parameters()} == {(torch.float32, False)}
    assert tiny_diffusion.factor == 2


def test_half_precision_weights_become_float32(copy: Path) -> None:
    save_file({name: tensor.half() for name, tensor in load_file(copy / UNET).items()}, copy / UNET)
    assert load_diffusion(str(copy)).unet.dtype == torch.float32


def renamed(folder: Path, ending: str) -> None:
    """Give the weights in a folder another ending."""
    (file,) = folder.glob("*.safetensors")
    file.rename(file.with_name(file.name.removesuffix(".safetensors") + ending))


def test_a_folder_that_holds_half_precision_copies_alone_is_read(copy: Path) -> None:
    for part in ("vae", "unet", "text_encoder"):
        (file,) = (copy / part).glob("*.safetensors")
        save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    halved = load_diffusion(str(copy))
    for part in ("vae", "unet", "text_encoder"):
        renamed(copy / part, ".fp16.safetensors")
    again = load_diffusion(str(copy))
    for part in ("vae", "unet", "text_encoder"):
        one, other = (getattr(diffusion, part).state_dict() for diffusion in (halved, again))
        assert all(torch.equal(one[name], tensor) and tensor.dtype == one[name].dtype for name, tensor in other.items())


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder"])
def test_pickled_weights_are_not_read_and_nobody_is_told_to(copy: Path, part: str) -> None:
    renamed(copy / part, ".bin")
    with pytest.raises(
        UserError, match=rf"{part} holds pickled weights alone \(\w+\.bin\).*get this model's \.safetensors"
    ):
        load_diffusion(str(copy))


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named_with_their_file(copy: Path, part: str, value: float) -> None:
    (file,) = (copy / part).glob("*.safetensors")
    tensors = load_file(file)
    name = sorted(tensors)[5]
    tensors[name].view(-1)[-1] = value
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(UserError, match=rf"{file}: {name} of the {part} holds NaN or infinity; fetch or make"):
        load_diffusion(str(copy))


@pytest.mark.parametrize("damage", ["cut", "text", "code", "cut safetensors"])
def test_a_damaged_single_file_is_named_without_advice_to_run_it(tmp_path: Path, damage: str) -> None:
    file = tmp_path / ("sd.safetensors" if damage == "cut safetensors" else "sd.ckpt")
    if damage == "cut safetensors":
        save_file({"a": torch.zeros(9)}, file)
    else:
        torch.save({"state_dict": {"a": Path("code") if damage == "code" else torch.zeros(999)}}, file)
    content = file.read_bytes()
    file.write_bytes({"text": b"my notes", "code": content}.get(damage, content[:-50]))
    with pytest.raises(UserError, match=r"sd\.\w+ cannot be loaded") as refused:
        load_diffusion(str(file))
    said = str(refused.value)
    assert damage == "cut safetensors" or ".safetensors" in said.partition("cannot be loaded")[2]
    assert "weights_only" not in said and "trust" not in said


def test_the_shipped_weights_load() -> None:
    pocket = load_diffusion("pocket")
    assert len(pocket.unet.config.block_out_channels) == 4
    assert pocket.text_encoder.config.hidden_size == pocket.unet.config.cross_attention_dim
    assert pocket.text_encoder.config.max_position_embeddings == 77


def test_a_folder_without_a_part_is_refused(copy: Path) -> None:
    shutil.rmtree(copy / "vae")
    with pytest.raises(UserError, match=r"lacks vae; a diffusers folder holds vae/, unet/, text_encoder/, tokenizer/"):
        load_diffusion(str(copy))


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_missing_tensor_is_refused_rather_than_made_up(copy: Path, part: str) -> None:
    (file,) = (copy / part).glob("*.safetensors")
    tensors = load_file(file)
    name = min(tensors)
    save_file({other: tensor for other, tensor in tensors.items() if other != name}, file, {"format": "pt"})
    with pytest.raises(UserError, match=rf"1 tensors differ: \S*{name.rpartition('.')[2]} is missing"):
        load_diffusion(str(copy))


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("unet", {"in_channels": 8}, r"conv_in\.weight \(\d+, 4, 3, 3\) where unet/config.json means \(\d+, 8, 3, 3\)"),
        (
            "text_encoder",
            {"intermediate_size": 24},
            r"fc1\.bias \(\d+,\) where text_encoder/config\.json means \(24,\)",
        ),
        ("text_encoder", {"num_hidden_layers": 1}, r"layers\.1\.\S+ has no place in the configured network"),
        ("unet", {"class_embed_type": "identity"}, r"class_embed_type identity, not None"),
        ("unet", {"sample_size": None}, r"sample_size None, not the side of the latents"),
        ("vae", {"shift_factor": 0.1159}, r"shift_factor=0.1159: latents are scaled by scaling_factor alone here"),
        (
            "vae",
            {"latents_mean": [0.5] * 4, "latents_std": [2.0] * 4},
            r"latents_mean=\[0.5, 0.5, 0.5, 0.5\]: latents are",
        ),
    ],
)
def test_weights_of_another_architecture_are_refused(copy: Path, part: str, changes: dict, said: str) -> None:
    """Which tensors differ, and how."""
    config = copy / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(UserError, match=said):
        load_diffusion(str(copy))


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "adds noise without betas, as flow matching does"),
        ({"_class_name": "EDMEulerScheduler", "prediction_type": "epsilon"}, "adds noise without betas"),
        ({"_class_name": "DDIMScheduler", "prediction_type": "flow"}, "prediction_type='flow': expected epsilon"),
        ({"_class_name": "NoSuchScheduler"}, "diffusers knows no such scheduler"),
    ],
)
def test_a_schedule_that_adds_noise_in_another_way_is_refused(copy: Path, scheduler: dict, said: str) -> None:
    (copy / "scheduler").mkdir()
    (copy / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
    with pytest.raises(UserError, match=said):
        load_schedule(str(copy))


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder"])
def test_a_torn_file_is_refused(copy: Path, part: str) -> None:
    (file,) = (copy / part).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_diffusion(str(copy))


def test_a_tokenizer_without_its_vocabulary_is_refused(copy: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (copy / "tokenizer" / name).unlink()
    with pytest.raises(UserError, match=r"vocab\.json and merges\.txt that belong to the text encoder"):
        load_diffusion(str(copy))


def test_pipelines_pad_to_what_the_text_encoder_reads(copy: Path) -> None:
    """CLIP's tokenizer is at large with a length of 8192."""
    (copy / "tokenizer/tokenizer_config.json").write_text(json.dumps({"model_max_length": 8192}))
    diffusion = load_diffusion(str(copy))
    assert diffusion.tokenizer.model_max_length == diffusion.tokens


@pytest.mark.parametrize("weights", ["/no/such/folder", "nobody/no-such-model"])
def test_nothing_there_is_an_error_with_the_mend(weights: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"Put Stable Diffusion there .* or name it with --set model\.weights=FOLDER"):
        load_diffusion(weights)


def test_the_digest_follows_contents_and_not_the_place(tiny_folder: Path, copy: Path) -> None:
    assert weights_digest(str(copy)) == weights_digest(str(tiny_folder))
    tensors = load_file(copy / UNET)
    tensors["conv_in.bias"][0] += 1e-6
    save_file(tensors, copy / UNET)
    assert weights_digest(str(copy)) != weights_digest(str(tiny_folder))


def test_the_digest_is_of_what_is_read(tiny_folder: Path, copy: Path) -> None:
    """Another program may have put other copies of the weights into the hub's cache."""
    weights = copy / UNET
    for other in ("diffusion_pytorch_model.bin", weights.name.replace(".safe", ".fp16.safe"), "flax_model.msgpack"):
        (weights.parent / other).write_bytes(b"other")
    assert weights_digest(str(copy)) == weights_digest(str(tiny_folder))
    weights.rename(weights.with_name(weights.name.replace(".safe", ".fp16.safe")))
    half = weights_digest(str(copy))
    weights.with_name(weights.name.replace(".safe", ".fp16.safe")).write_bytes(b"changed")
    assert weights_digest(str(copy)) != half


def test_a_hub_that_breaks_off_is_replaced_by_its_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def snapshot(repository: str, *, local_files_only: bool, **_: object) -> str:
        asked.append(local_files_only)
        if not local_files_only:
            raise HTTPError("peer closed connection")
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    assert hub.from_hub("a/b", ["*.json"], "missing", "; mend") == tmp_path and asked == [False, True]
