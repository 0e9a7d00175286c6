"""A frozen image encoder sees what its own processor would show it, and what is no image encoder is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    CLIPImageProcessor,
    CLIPVisionModelWithProjection,
    Dinov2Model,
    ViTForImageClassification,
)

from tadp_ray.conditioning.encoder_files import encoder_digest
from tadp_ray.conditioning.image_encoder import load_image_encoder, preprocessing
from tadp_ray.data.pixels import normalized, unit_range
from tadp_ray.errors import UserError


@pytest.fixture
def images() -> Tensor:
    """Views uint8 (2, 3, 16, 16) of the encoders' own size."""
    return torch.randint(256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "output", "kind", "field"),
    [
        ("clip", "embedding", CLIPVisionModelWithProjection, "image_embeds"),
        ("vit", "logits", ViTForImageClassification, "logits"),
        ("dino", "embedding", Dinov2Model, "pooler_output"),
    ],
)
def test_an_embedding_is_what_the_model_says_of_what_its_processor_makes(
    tiny_vision: Path, images: Tensor, name: str, output: str, kind: type, field: str
) -> None:
    encoder = load_image_encoder(str(tiny_vision / name), output)
    shown = AutoImageProcessor.from_pretrained(tiny_vision / name)(images=list(images), return_tensors="pt")
    with torch.no_grad():
        expected = getattr(kind.from_pretrained(tiny_vision / name)(**shown), field)
    found = encoder(images / 255)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert found.shape == (2, encoder.width) and not found.requires_grad and found.std() > 0.01
    assert encoder.to_meta().network is not encoder.network and encoder.network.training is False


def test_a_view_of_any_size_is_seen_whole(tiny_vision: Path) -> None:
    """Resized with antialiasing and not cropped: what stands at its edge counts."""
    encoder = load_image_encoder(str(tiny_vision / "clip"), "embedding")
    wide = torch.full((1, 3, 16, 48), 0.5)
    marked = wide.clone()
    marked[..., :4] = 1.0
    assert encoder(wide).shape == (1, 12) and not torch.allclose(encoder(wide), encoder(marked), atol=1e-3)


@pytest.mark.parametrize("pixels", ["half", "imagenet"])
def test_normalized_pixels_come_back_to_the_unit_range(images: Tensor, pixels: str) -> None:
    torch.testing.assert_close(unit_range(normalized(images, pixels), pixels), images / 255, atol=1e-6, rtol=0)


def preprocessed(folder: Path, to: Path, **changes: object) -> Path:
    """A copy of an encoder whose processor has other settings."""
    file = shutil.copytree(folder, to) / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return to


def test_pixels_that_a_processor_does_not_normalize_are_not_normalized(
    tiny_vision: Path, tmp_path: Path, images: Tensor
) -> None:
    folder = preprocessed(tiny_vision / "clip", tmp_path / "plain", do_normalize=False)
    shown = AutoImageProcessor.from_pretrained(folder)(images=list(images), return_tensors="pt")
    with torch.no_grad():
        expected = CLIPVisionModelWithProjection.from_pretrained(folder)(**shown).image_embeds
    found = load_image_encoder(str(folder), "embedding")(images / 255)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(
        found, load_image_encoder(str(tiny_vision / "clip"), "embedding")(images / 255), atol=1e-3
    )


@pytest.mark.parametrize("resample", [2, 3])
def test_a_large_view_is_made_small_by_pillow_s_filter_of_that_number(
    tiny_vision: Path, tmp_path: Path, resample: int
) -> None:
    folder = preprocessed(tiny_vision / "clip", tmp_path / "other", resample=resample)
    encoder = load_image_encoder(str(folder), "embedding")
    seen = replace(encoder, network=lambda pixel_values: SimpleNamespace(image_embeds=pixel_values.flatten(1)))
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    small = Image.fromarray(noise).resize((16, 16), Image.Resampling(resample))
    found, expected = (seen(torch.from_numpy(np.array(each)).permute(2, 0, 1)[None] / 255) for each in (noise, small))
    # Pillow rounds twice, to whole levels, which are 0.015 apart once they are normalized.
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)
    # As there, no pixel beside an edge is darker than black.
    black, edge = torch.zeros(1, 3, 48, 48), torch.zeros(1, 3, 48, 48)
    edge[..., 20:] = 1
    assert (seen(edge) >= seen(black)).all()


@pytest.mark.parametrize(("cropped", "size"), [(True, (16, 24)), (False, (20, 20))])
def test_an_encoder_s_size_is_that_of_the_crop_or_the_shortest_edge(cropped: bool, size: tuple[int, int]) -> None:
    sizes = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 24}}
    assert preprocessing(CLIPImageProcessor(**sizes, do_center_crop=cropped))[0] == size


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"resample": 1}, "resizes by resample: 1; known are 2 and 3"),
        ({"do_rescale": False}, "does not rescale pixels by 1/255"),
        ({"rescale_factor": 1 / 127.5}, "does not rescale pixels by 1/255"),
        ({"do_flip_channel_order": True}, "flips the order of the channels"),
        ({"size": {"longest_edge": 20}, "do_center_crop": False}, "tells neither height and width nor a shortest edge"),
    ],
)
def test_a_processor_that_changes_pixels_otherwise_is_refused(
    tiny_vision: Path, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        load_image_encoder(str(preprocessed(tiny_vision / "clip", tmp_path / "other", **changes)), "embedding")


def copied(folder: Path, to: Path, without: str = "") -> Path:
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns(without) if without else None)
    return to


def test_what_is_no_image_encoder_is_refused(tiny_vision: Path, tiny_folder: Path, tmp_path: Path) -> None:
    def refused(folder: Path, output: str = "embedding") -> str:
        with pytest.raises(UserError) as error:
            load_image_encoder(str(folder), output)
        return str(error.value)

    key = "model.context.sources.encoder="
    said = refused(copied(tiny_vision / "clip", tmp_path / "a", "preprocessor_config.json"))
    assert said.startswith(key) and "lacks preprocessor_config.json; a folder of transformers holds" in said
    assert "lacks .safetensors weights" in refused(copied(tiny_vision / "clip", tmp_path / "b", "*.safetensors"))
    # Its pooler would be random.
    assert "no trained pooler.dense" in (said := refused(tiny_vision / "vit")) and "use output: logits" in said
    said = refused(tiny_vision / "clip", "logits")
    assert "cannot be loaded as an image encoder with output: logits (" in said
    text = copied(tiny_folder / "text_encoder", tmp_path / "text")
    shutil.copy(tiny_vision / "clip/preprocessor_config.json", text)
    assert key in refused(text)
    wrong = copied(tiny_vision / "clip", tmp_path / "c")
    weights = load_file(wrong / "model.safetensors")
    save_file(weights | {"visual_projection.weight": torch.zeros(3, 16)}, wrong / "model.safetensors", {"format": "pt"})
    assert "visual_projection.weight has another shape than config.json says" in refused(wrong)
    save_file(weights | {"visual_projection.weight": torch.full((12, 16), np.nan)}, wrong / "model.safetensors")
    assert "holds NaN or infinity" in refused(wrong)


def test_a_digest_depends_on_weights_and_configurations_and_not_on_the_place(tiny_vision: Path, tmp_path: Path) -> None:
    moved = copied(tiny_vision / "clip", tmp_path / "moved")
    digests = [encoder_digest(str(moved))]
    assert digests == [encoder_digest(str(tiny_vision / "clip"))]
    weights = load_file(moved / "model.safetensors")
    weights["visual_projection.weight"][0, 0] += 1e-3
    save_file(weights, moved / "model.safetensors", {"format": "pt"})
    digests.append(encoder_digest(str(moved)))
    config = moved / "preprocessor_config.json"
    config.write_text(config.read_text().replace("0.48", "0.58"))
    digests.append(encoder_digest(str(moved)))
    assert len({*digests}) == 3
