"""The public interface: what it loads, what it gives, and what it says of what does not fit."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tadp_ray
from tadp_ray.api import trained
from tadp_ray.api.trained import TrainedModel
from tadp_ray.backbones.families import family_of
from tadp_ray.backbones.stable_diffusion.attention import reading_maps
from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
from tadp_ray.config.cell import Cell
from tadp_ray.config.model import MODELS
from tadp_ray.config.vocabulary import RESULT_COLUMNS
from tadp_ray.errors import UserError
from tadp_ray.layout import MODEL
from tadp_ray.sweep.planning import plan_recipe
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import replay
from tadp_ray.tracking.sweep_run import parent
from tadp_ray.training.checkpoint import write_tensors
from tadp_ray.training.model import TADP
from tadp_ray.training.predict import predict_cell
from tadp_ray.training.run import build_model
from tadp_ray.training.setup import TrainSetup
from tests.fixtures.cli import invoke

ROOT = Path(__file__).resolve().parents[1]
PROMPT = "a cat on grass"
CPU = torch.device("cpu")
TINY: dict[str, Any] = {
    "data": {"kind": "scenes", "train": 10, "val": 3, "size": 32},
    "caption": {"source": "oracle"},
    "schedule": {"iterations": 6, "batch_size": 4, "learning_rate": 1e-3},
}
HEADS: dict[str, dict[str, Any]] = {
    "segmentation": {"head": {"channels": 16}},
    "depth": {"attention_maps": "none", "head": {"kind": "vpd_depth", "fused": 32, "channels": 16, "max_depth": 80.0}},
    "detection": {
        "head": {"kind": "faster_rcnn", "channels": 16, "representation": 32, "anchors": [8, 16, 32, 48]},
    },
}


@pytest.fixture(scope="module")
def backbone() -> tadp_ray.Backbone:
    """The pocket model."""
    return tadp_ray.load_backbone("pocket")


@pytest.fixture
def scene() -> tadp_ray.Sample:
    """A scene of 64 x 64 pixels."""
    recipe = tadp_ray.build_recipe(**TINY | {"data": {"kind": "scenes", "train": 2, "val": 2}})
    return tadp_ray.open_dataset(recipe.data, "val")[0]


@pytest.fixture
def finished_run(store, journals, tmp_path: Path) -> Callable[..., tuple[str, Cell]]:
    """`finished_run("depth")`: a cell with chance's weights, which the store holds as finished, and the id of its run."""

    def finish(task: str = "segmentation", **groups: Any) -> tuple[str, Cell]:
        settings = {
            **TINY,
            "model": HEADS[task],
            "task": task,
            "compute": {"storage": str(tmp_path / "runs")},
            **groups,
        }
        (cell,) = plan_recipe(tadp_ray.build_recipe(**settings), "tiny", "tiny", "?", 0).cells
        setup = TrainSetup(cell.recipe, cell.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = build_model(setup, CPU)
            # Large enough for several classes to win somewhere, and for boxes to be told.
            wide = model.head.roi_heads.box_predictor.cls_score if task == "detection" else model.head
            for parameter in wide.parameters():
                torch.nn.init.normal_(parameter, std=2.0 if task == "detection" else 0.2)
        journals.start(cell)
        journals.finish(cell, **{setup.task.main: 7.5})
        write_tensors(cell.folder / MODEL, model.state_dict(), {"fingerprint": cell.fingerprint})
        replay(store, cell_run_spec(parent(store, "tiny", "pocket", "key"), cell))
        (run,) = store.client.search_runs(
            [store.experiment_id("tiny")], f"tags.`tadp.fingerprint` = '{cell.fingerprint}'"
        )
        return run.info.run_id, cell

    return finish


def loaded(code: str) -> list[str]:
    """The heavy packages that a process has loaded after some code."""
    script = f"import sys\n{code}\nprint(sorted({{'torch', 'ray', 'mlflow'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1].replace("'", '"'))


@pytest.mark.slow
def test_the_package_alone_loads_nothing_heavy_and_its_names_load_what_they_need() -> None:
    assert loaded("import tadp_ray; dir(tadp_ray)") == []
    recipe = "tadp_ray.build_recipe('experiments/recipes/pocket_segmentation.yaml')"
    assert loaded(f"import tadp_ray; {recipe}; tadp_ray.open_dataset, tadp_ray.UserError") == []
    assert loaded("import tadp_ray; tadp_ray.read_experiment('experiments/prec_recall.yaml', dry=True)") == ["mlflow"]


def test_every_public_name_is_there_and_no_other() -> None:
    assert len(tadp_ray.__all__) <= 25 and {*tadp_ray.__all__} <= {*dir(tadp_ray)}
    assert all(getattr(tadp_ray, name) is not None for name in tadp_ray.__all__)
    assert all(getattr(tadp_ray, name).__doc__ for name in tadp_ray.MODULES)
    with pytest.raises(AttributeError, match="has no attribute 'load_backbon'"):
        getattr(tadp_ray, "load_backbon")  # noqa: B009


def test_features_at_several_timesteps_are_those_at_each(backbone: tadp_ray.Backbone, scene) -> None:
    several = backbone.features(scene, PROMPT, timestep=(1, 300))
    each = [backbone.features(scene, PROMPT, timestep=time) for time in (1, 300)]
    averaged = backbone.features(scene, PROMPT, timestep=(1, 300), timestep_features="averaged")
    for own, told in ((each[1], np.int64(300)), (several, np.array([1, 300]))):
        assert all(map(torch.equal, own, backbone.features(scene, PROMPT, timestep=told)))
    with pytest.raises(tadp_ray.UserError, match="timestep_features='concatenate': expected concatenated or averaged"):
        backbone.features(scene, PROMPT, timestep=(1, 300), timestep_features="concatenate")
    for level, mean, one, other in zip(several, averaged, *each, strict=True):
        torch.testing.assert_close(level, torch.cat([one, other], 1), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(mean, (one + other) / 2, atol=1e-4, rtol=1e-4)


def test_noise_follows_its_seed_and_is_averaged_out(backbone: tadp_ray.Backbone, scene) -> None:
    def noised(seed: int, samples: int) -> torch.Tensor:
        found = backbone.features(scene, PROMPT, timestep=300, noise_samples=samples, seed=seed)
        assert [level.shape for level in found] == [level.shape for level in backbone.features(scene, PROMPT)]
        return found[2]

    assert torch.equal(noised(0, 1), noised(0, 1))
    few, many = ((noised(0, samples) - noised(1, samples)).square().mean() for samples in (1, 16))
    assert 0 < 5 * many < few


@pytest.mark.parametrize("timestep", [-1, 1000, 1_000_000])
def test_a_timestep_that_no_schedule_has_is_refused(backbone: tadp_ray.Backbone, scene, timestep: int) -> None:
    said = f"timestep={timestep}: is outside 0 to 999; name one of these"
    for times, samples in ((timestep, 0), ((1, timestep), 0), (timestep, 1)):
        with pytest.raises(tadp_ray.UserError, match=said):
            backbone.features(scene, PROMPT, timestep=times, noise_samples=samples)
    with pytest.raises(tadp_ray.UserError, match=said):
        backbone.attention_maps(scene, PROMPT, timestep=timestep)


@pytest.mark.parametrize("maps", ["none", "cross"])
def test_features_are_those_that_the_training_model_gives_its_head(backbone: tadp_ray.Backbone, scene, maps) -> None:
    groups = {**TINY, "model": {"attention_maps": maps, "head": {"channels": 16}}}
    recipe = tadp_ray.build_recipe(**groups)
    model = TADP(
        StableDiffusionBackbone(backbone.diffusion, recipe.model, backbone.context_length), 5, recipe.model
    ).eval()
    latents, context = backbone.encode_image(scene), backbone.encode_prompt(PROMPT)
    given: list[tuple[torch.Tensor, ...]] = []
    model.head.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    with torch.no_grad():
        model(latents, context)
    found = backbone.features(scene, PROMPT, maps=maps)
    assert all(torch.equal(own, told) for own, told in zip(found, given[0], strict=True))
    again = backbone.features(torch.cat([latents, latents]), context, maps=maps)
    assert [tuple(level.shape) for level in again] == [(2, *level.shape[1:]) for level in found]


def test_a_backbone_tells_its_sizes(backbone: tadp_ray.Backbone, scene) -> None:
    features = backbone.features(scene.image, "", maps="none")
    assert tuple(level.shape[1] for level in features) == backbone.channels
    assert tuple(64 // level.shape[2] for level in features) == backbone.strides
    (one,) = backbone.features(scene.image, "", maps="none", layers="up0.2")
    assert torch.equal(one, features[0])
    context = backbone.encode_prompt(["", PROMPT])
    assert tuple(context.shape) == (2, backbone.context_length, backbone.context_width)
    assert not any(level.requires_grad for level in features) and backbone.device == CPU


def test_attention_maps_are_those_that_features_hold(backbone: tadp_ray.Backbone, scene) -> None:
    """The maps of one resolution, averaged over its five layers, are the channels behind the U-Net's own."""
    found = backbone.attention_maps(scene, PROMPT)
    assert [*found.words] == PROMPT.split() and found.words["cat"].shape == (64, 64)
    # Some layers leave nearly all of it to the end token: 1 less such a small sum is rounded to 1.
    assert all((maps.sum(2) > 0).all() and (maps.sum(2) < 2).all() for maps in found.layers.values())
    middle = backbone.features(scene, PROMPT)[1][:, backbone.channels[1] :]
    layers = [maps.mean(1) for maps in found.layers.values() if maps.shape[-2:] == middle.shape[-2:]]
    kept = len(found.tokens)
    torch.testing.assert_close(torch.stack(layers).mean(0), middle[:, :kept], rtol=1e-5, atol=1e-6)
    with reading_maps(backbone.diffusion.unet, {1: ["down1.0"]}, True) as read:
        pass
    assert read == {(1, "cross"): []}  # nothing goes on reading
    with pytest.raises(tadp_ray.UserError, match="'dog' is not in the prompt; its words are a, cat, on, grass"):
        backbone.attention_maps(scene, PROMPT, ["dog"])


def test_a_backbone_on_a_gpu_gives_what_it_gives_on_a_cpu(
    backbone: tadp_ray.Backbone, scene, gpu: torch.device
) -> None:
    """The GPU is a pretended one."""
    there = tadp_ray.load_backbone("pocket", device=gpu)
    options: dict[str, Any] = {"timestep": [1, 50], "noise_samples": 2}
    for found, expected in zip(
        there.features(scene, PROMPT, **options), backbone.features(scene, PROMPT, **options), strict=True
    ):
        assert found.is_cuda
        torch.testing.assert_close(found.cpu(), expected)
    words, expected = (model.attention_maps(scene, PROMPT).words for model in (there, backbone))
    assert words.keys() == expected.keys()
    for word, found in words.items():
        np.testing.assert_allclose(found, expected[word], rtol=1e-4)


def test_an_image_is_the_same_from_a_file_from_pillow_and_as_an_array(tmp_path: Path, scene) -> None:
    Image.fromarray(scene.image).save(tmp_path / "scene.png")
    for image in (tmp_path / "scene.png", str(tmp_path / "scene.png"), Image.open(tmp_path / "scene.png"), scene):
        assert np.array_equal(tadp_ray.read_image(image), scene.image)
    turned = Image.fromarray(np.rot90(scene.image))
    turned.getexif()[0x0112] = 6  # which viewers turn back
    assert np.array_equal(tadp_ray.read_image(turned), scene.image)
    mirrored = tadp_ray.read_image(scene.image[:, ::-1])
    assert mirrored.flags.c_contiguous and np.array_equal(mirrored, scene.image[:, ::-1])
    (tmp_path / "cut.png").write_bytes((tmp_path / "scene.png").read_bytes()[:900])
    with Image.open(tmp_path / "cut.png") as cut:
        for image in (tmp_path / "cut.png", cut):
            with pytest.raises(tadp_ray.UserError, match="cannot be read"):
                tadp_ray.read_image(image)
    clear = Image.new("RGBA", (3, 2), (200, 0, 0, 0))
    assert tadp_ray.read_image(clear).tolist() == [[[255] * 3] * 3] * 2


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("nowhere.png", "nowhere.png: there is no such file"),
        (
            np.zeros((4, 4, 3)),
            r"array float64 \(4, 4, 3\), expected uint8 \(height, width, 3\) RGB; values in \[0, 1\]",
        ),
        (np.zeros((4, 4), np.uint8), r"array uint8 \(4, 4\), expected uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"array uint8 \(0, 4, 3\), expected uint8"),
        (Image.new("I;16", (3, 3)), "a photograph in I;16; save it as RGB"),
        (7, "image of type int: expected a path, a Pillow image"),
    ],
)
def test_what_is_no_image_is_refused(image: object, said: str) -> None:
    with pytest.raises(tadp_ray.UserError, match=said):
        tadp_ray.read_image(image)


def test_what_does_not_fit_a_backbone_is_refused(backbone: tadp_ray.Backbone, scene) -> None:
    with pytest.raises(tadp_ray.UserError, match="the text encoder reads 75"):
        backbone.encode_prompt("cat " * 80)
    with pytest.raises(tadp_ray.UserError, match="2 prompts for 1 image; give one, or one for each image"):
        backbone.features(scene, ["a cat", "a dog"])
    with pytest.raises(tadp_ray.UserError, match="^weights='./nowhere': .* name it with weights=FOLDER"):
        tadp_ray.load_backbone("./nowhere")
    with pytest.raises(tadp_ray.UserError, match="device 'gpu': torch .* cannot use it here"):
        tadp_ray.load_backbone(device="gpu")


def predict_whole(cell: Cell, folder: Path) -> tuple[str, str]:
    """Write what a cell predicts for its validation images; returns an image's id, and its prompt."""
    predict_cell(cell, cell.folder / MODEL, folder, CPU)
    setup = TrainSetup(cell.recipe, cell.seed)
    return setup.val.ids[1], setup.val_prompts[setup.val.ids[1]]


WINDOWS: dict[str, Any] = {"mode": "slide", "crop": 32, "stride": 16, "scales": [1.0, 1.5], "flip": True}
NOISED: dict[str, Any] = {**HEADS["segmentation"], "timestep": [1, 200], "noise_samples": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    "groups",
    [{}, {"evaluation": WINDOWS}, {"evaluation": WINDOWS, "model": NOISED}],
    ids=["whole", "windows, sizes, mirrored", "noised"],
)
def test_labels_of_a_validation_image_are_those_that_predict_writes(
    finished_run, store, tmp_path: Path, groups
) -> None:
    run, cell = finished_run(**groups)
    image_id, prompt = predict_whole(cell, tmp_path / "whole")
    written = np.asarray(Image.open(tmp_path / f"whole/predictions/{image_id}.png"))
    model = tadp_ray.load_trained(run, tracking_uri=store.uri)
    image = tmp_path / f"whole/images/{image_id}.png"
    assert len(np.unique(written)) > 1
    assert np.array_equal(model.predict(image, prompt, image_id=image_id).mask, written)
    sample = tadp_ray.open_dataset(cell.recipe.data, "val")[1]
    found = model.predict(sample, prompt)
    assert np.array_equal(found.mask, written) and found.mask.dtype == np.uint8 and found.depth is None
    assert model.classes == tuple((tmp_path / "whole/classes.txt").read_text().splitlines())
    other = model.predict(sample, "a bus on sand under the sky")
    assert not np.array_equal(other.mask, written)  # words count


@pytest.mark.slow
def test_metres_and_boxes_of_a_validation_image_are_those_that_predict_writes(
    finished_run, store, tmp_path: Path
) -> None:
    # The last digits depend on how many images a pass has.
    alone = {"schedule": {**TINY["schedule"], "batch_size": 1}}
    run, cell = finished_run("depth", **alone)
    image_id, prompt = predict_whole(cell, tmp_path / "depth")
    image = tmp_path / f"depth/images/{image_id}.png"
    found = tadp_ray.load_trained(run, tracking_uri=store.uri).predict(image, prompt, image_id=image_id)
    written = np.load(tmp_path / f"depth/predictions/{image_id}.npy")
    np.testing.assert_array_equal(found.depth, written)
    assert found.depth.dtype == np.float32 and written.std() > 0

    run, cell = finished_run("detection", **alone)
    image_id, prompt = predict_whole(cell, tmp_path / "boxes")
    model = tadp_ray.load_trained(run, tracking_uri=store.uri)
    found = model.predict(image, prompt, image_id=image_id)
    files = found.write(tmp_path / "one", image_id)
    own = json.loads(files[0].read_text())
    whole = json.loads((tmp_path / "boxes/predictions.json").read_text())
    assert own == [box for box in whole if box["image_id"] == image_id] and own
    assert len(found.boxes) == len(found.box_classes) == len(found.scores) == len(own)
    assert (tmp_path / "one/classes.txt").read_text().splitlines() == list(model.classes)


def test_an_image_of_any_size_is_predicted_in_its_own_pixels(finished_run, store, scene) -> None:
    model: TrainedModel = tadp_ray.load_trained(finished_run()[0], tracking_uri=store.uri)
    image = np.tile(scene.image, (2, 1, 1))[:77, :50]
    found = model.predict(image, PROMPT)
    assert found.mask.shape == (77, 50) and np.array_equal(found.image, image) and found.prompt == PROMPT
    assert np.array_equal(model.predict(Image.fromarray(image), PROMPT).mask, found.mask)


@pytest.mark.slow
def test_prompts_that_do_not_fit_a_trained_cell_are_refused(finished_run, store, scene) -> None:
    texts = tadp_ray.load_trained(finished_run()[0], tracking_uri=store.uri)
    long = "cat " * 80
    with pytest.raises(tadp_ray.UserError, match="it would be cut behind"):
        texts.predict(scene, long)
    with pytest.raises(tadp_ray.UserError, match="this model's prompts are texts"):
        texts.predict(scene, ["cat", "dog"])
    assert texts.predict(scene, long, truncate=True).prompt == long
    encoding = {"source": "class_names", "encoding": "class_embeddings", "templates": "single"}
    names = tadp_ray.load_trained(finished_run(caption=encoding)[0], tracking_uri=store.uri)
    told = names.predict(scene, names.classes)
    assert told.prompt == names.classes
    assert np.array_equal(told.mask, names.predict(scene, ", ".join(names.classes)).mask)
    with pytest.raises(tadp_ray.UserError, match=f"2 names make a context of 2 vectors.*with {len(names.classes)} "):
        names.predict(scene, "cat, dog")
    with pytest.raises(tadp_ray.UserError, match=r"an empty name in \['cat', ''\]; take it out"):
        names.predict(scene, "cat,")


def test_a_cell_that_reads_views_of_one_size_refuses_others(finished_run, store, scene) -> None:
    model = tadp_ray.load_trained(
        finished_run(model={**HEADS["segmentation"], "attention_maps": "cross+self"})[0], tracking_uri=store.uri
    )
    assert model.predict(scene.image[:32, :32], PROMPT).mask.shape == (32, 32)
    with pytest.raises(tadp_ray.UserError, match="image of 64 x 64 pixels: .* cut or resize the image"):
        model.predict(scene, PROMPT)


def test_a_cell_whose_head_cuts_padding_off_refuses_images_of_which_it_would_cut_off_more(
    finished_run, store, scene
) -> None:
    head = {**HEADS["depth"]["head"], "unpadded": 32}
    model = tadp_ray.load_trained(
        finished_run("depth", model={**HEADS["depth"], "head": head})[0], tracking_uri=store.uri
    )
    assert model.predict(scene.image[:32, :20], PROMPT).depth.shape == (32, 20)
    with pytest.raises(tadp_ray.UserError, match="image of 50 x 32 pixels: .*unpadded=32 .* not 50; cut or resize"):
        model.predict(scene.image[:32, :50], PROMPT)


def test_runs_and_weights_that_are_not_there_are_named(finished_run, store, tmp_path: Path) -> None:
    with pytest.raises(tadp_ray.UserError, match=f"holds no run {'0' * 32}"):
        tadp_ray.load_trained("0" * 32, tracking_uri=store.uri)
    with pytest.raises(tadp_ray.UserError, match="there is no such store"):
        tadp_ray.load_trained("0" * 32, tracking_uri=f"sqlite:///{tmp_path}/none.db")
    run, cell = finished_run()
    (cell.folder / MODEL).unlink()
    with pytest.raises(tadp_ray.UserError, match="the cell's weights were moved or deleted"):
        tadp_ray.load_trained(run, tracking_uri=store.uri)


@pytest.mark.slow
def test_the_shell_predicts_one_picture(finished_run, store, scene, tmp_path: Path) -> None:
    run, _ = finished_run()
    picture, out = tmp_path / "my photo.png", tmp_path / "out"
    Image.fromarray(scene.image[:50]).save(picture)
    flags = ["--tracking-uri", store.uri]
    result = invoke("predict", run, out, "--image", picture, "--prompt", PROMPT, *flags)
    assert result.exit_code == 0, result.output
    found = tadp_ray.load_trained(run, tracking_uri=store.uri).predict(picture, PROMPT)
    assert np.array_equal(np.asarray(Image.open(out / "predictions/my photo.png")), found.mask)
    assert np.array_equal(tadp_ray.read_image(out / "images/my photo.png"), scene.image[:50])
    assert tadp_ray.read_image(out / "pictures/my photo.png").shape[1] > 500
    assert (out / "classes.txt").read_text().splitlines() == list(found.classes)
    assert all(str(out / name) in result.stdout for name in ("classes.txt", "pictures/my photo.png"))

    other = Path(shutil.copy(picture, tmp_path / "other.png"))
    both = ("--image", picture, "--image", other, "--prompt", PROMPT)
    assert invoke("predict", run, tmp_path / "both", *both, *flags).exit_code == 0
    assert {file.stem for file in (tmp_path / "both/predictions").iterdir()} == {"my photo", "other"}
    (tmp_path / "folder").mkdir()
    namesake = shutil.copy(picture, tmp_path / "folder")
    result = invoke("predict", run, tmp_path / "two", *both, "--image", namesake, *flags)
    assert result.exit_code == 2 and "two pictures are called my photo" in result.stderr

    result = invoke("predict", run, out, "--image", picture, *flags)
    assert result.exit_code == 2 and "--image and --prompt belong together" in result.stderr
    result = invoke("predict", run, out, "--image", tmp_path / "none.png", "--prompt", "", *flags)
    assert result.exit_code == 2 and f"{tmp_path}/none.png: there is no such file" in result.stderr


@pytest.mark.parametrize(
    ("there", "task", "said"),
    [
        ("images/room.png", "segmentation", "is there, and would be replaced; name another folder"),
        ("pictures/room.png", "segmentation", "is there, and would be replaced"),
        ("predictions/room.npy", "segmentation", "is there, and would be replaced"),
        ("classes.txt", "segmentation", "lists other classes than this model's, and would be replaced"),
        ("images/room.jpg", "segmentation", None),
        ("predictions/room.b.png", "segmentation", None),
        ("classes.txt", "depth", None),  # which has none
    ],
)
def test_the_shell_replaces_no_file_with_a_prediction(
    finished_run, store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, task: str, said: str | None
) -> None:
    class Loaded(Exception):
        pass

    def load(*_: object) -> None:
        raise Loaded

    monkeypatch.setattr(trained, "open_cell", load)
    run, _ = finished_run(task)
    picture, file = tmp_path / "room.png", tmp_path / "out" / there
    Image.new("RGBA", (32, 32)).save(picture)
    file.parent.mkdir(parents=True)
    file.write_text("mine\n")
    result = invoke("predict", run, tmp_path / "out", "--image", picture, "--prompt", "", "--tracking-uri", store.uri)
    assert file.read_text() == "mine\n"
    if said is None:
        assert isinstance(result.exception, Loaded)
    else:
        assert result.exit_code == 2 and f"{file}: {said}" in result.stderr, result.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_where_there_is_no_gpu_a_cell_of_one_predicts_on_the_device_that_is_named(
    finished_run, store, scene, tmp_path: Path
) -> None:
    run, _ = finished_run(compute={"storage": str(tmp_path / "runs"), "gpus": 1})
    picture, out = tmp_path / "photo.png", tmp_path / "out"
    Image.fromarray(scene.image[:32, :32]).save(picture)
    own = ["predict", run, out, "--tracking-uri", store.uri, "--storage", tmp_path / "runs"]
    for words in ([], ["--image", picture, "--prompt", PROMPT]):
        result = invoke(*own, *words)
        assert result.exit_code == 2 and "device 'cuda': torch" in result.stderr, result.output
        assert result.stderr.rstrip().endswith("; try --device cpu") and not out.exists()
    result = invoke(*own, "--device", "cpu")
    assert result.exit_code == 0 and len([*(out / "predictions").iterdir()]) == 3, result.output


@pytest.mark.slow
@pytest.mark.parametrize("task", ["depth", "detection"])
def test_every_task_is_drawn(finished_run, store, scene, tmp_path: Path, task: str) -> None:
    found = tadp_ray.load_trained(finished_run(task)[0], tracking_uri=store.uri).predict(scene, "")
    prediction, image, picture, *_ = found.write(tmp_path / "out", "a.b")
    assert prediction.name == {"depth": "a.b.npy", "detection": "a.b.json"}[task]
    assert found.scores is None or found.scores.max() >= 0.5  # so that boxes are drawn
    assert image.is_file() and tadp_ray.read_image(picture).shape[1] > 500


def test_an_experiment_is_a_row_for_each_cell(experiment: Path, swept, store, tmp_path: Path) -> None:
    changes = [f"compute.storage={tmp_path}/runs"]
    planned = tadp_ray.read_experiment(experiment, changes=changes, dry=True)
    assert [*planned.state] == ["not started"] * 4 and planned.run_id.isna().all()
    assert [*planned] == ["caption.precision", "caption.recall", *RESULT_COLUMNS]
    swept(experiment)
    cells = tadp_ray.read_experiment(experiment, changes=changes, tracking_uri=store.uri)
    assert [*cells["caption.precision"]] == [0.5, 0.5, 1.0, 1.0] and [*cells["caption.recall"]] == [0.5, 1.0] * 2
    assert [*cells.state] == ["finished"] * 3 + ["not started"]
    assert [*cells.miou[:3]] == [10.0, 20.0, 30.0] and np.isnan(cells.miou[3]) and {*cells.seed} == {0}
    assert [*cells.fingerprint] == [*planned.fingerprint]
    for run_id, value in zip(cells.run_id[:3], cells.miou, strict=False):
        assert store.client.get_run(run_id).data.metrics["miou"] == value
    some = tadp_ray.read_experiment(
        experiment, changes=changes, seeds=[0, 1], only=["caption.recall=1.0"], tracking_uri=store.uri
    )
    assert [*some.state] == ["finished"] + ["not started"] * 3
    more = tadp_ray.read_experiment(
        experiment, changes=changes, axes=["schedule.learning_rate=1e-3,2e-3"], tracking_uri=store.uri
    )
    assert [*more["schedule.learning_rate"]] == [0.001, 0.002] * 4
    assert [*more.state[::2]] == [*cells.state] and {*more.state[1::2]} == {"not started"}


def test_an_experiment_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = tadp_ray.read_experiment(
        "prec_recall", recipe="pocket_segmentation", axes=["model.timestep=1,50"], dry=True
    )
    assert len(cells) == 18 and {*cells["model.timestep"]} == {1, 50}


AXES = ["caption.precision=0.5,1.0", "caption.recall=0.5,1.0"]


def test_a_recipe_at_axes_needs_no_file_of_an_experiment(experiment: Path, swept, store, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"recipe": "recipe.yaml", "axes": AXES, "changes": [f"compute.storage={tmp_path}/runs"]}
    planned = tadp_ray.read_experiment(**asked, dry=True)
    assert [*planned["caption.recall"]] == [0.5, 1.0] * 2 and {*planned.state} == {"not started"}
    swept(experiment)
    cells = tadp_ray.read_experiment(**asked, name="my question", tracking_uri=store.uri)
    assert [*cells.fingerprint] == [*planned.fingerprint] and [*cells.miou[:3]] == [10.0, 20.0, 30.0]


def test_a_sweep_of_the_store_is_read_by_its_name(experiment: Path, swept, store, tmp_path: Path) -> None:
    swept(experiment)
    own = tadp_ray.read_experiment(experiment, changes=[f"compute.storage={tmp_path}/runs"], tracking_uri=store.uri)
    experiment.unlink()
    assert tadp_ray.read_experiment("tiny", tracking_uri=store.uri).equals(own)
    with pytest.raises(
        tadp_ray.UserError, match="^tiny: a sweep in MLflow, whose cells are fixed; leave seeds, axes out"
    ):
        tadp_ray.read_experiment("tiny", seeds=np.arange(2), axes=AXES, tracking_uri=store.uri)
    with pytest.raises(
        tadp_ray.UserError, match=r"^tinny: neither an experiment .* nor a sweep .*did you mean 'tiny'\?"
    ):
        tadp_ray.read_experiment("tinny", seeds=[1], tracking_uri=store.uri)
    with pytest.raises(tadp_ray.UserError, match="^tiny: neither a file nor a shipped experiment"):
        tadp_ray.read_experiment("tiny", tracking_uri=f"sqlite:///{tmp_path}/none.db")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "^name an experiment, e.g. 'prec_recall', or a recipe and what is to vary"),
        ({"recipe": "pocket_segmentation"}, "^name an experiment, e.g. 'prec_recall', or a recipe and what is to vary"),
        ({"axes": AXES}, "^name an experiment, e.g. 'prec_recall', or a recipe and what is to vary"),
        ({"file": 7}, "^file=7: expected a file, or the name of a shipped one"),
        ({"file": "prec_recall", "name": "mine"}, "^name='mine': names a sweep with axes"),
        (
            {"file": "prec_recall", "recipe": tadp_ray.build_recipe(**TINY)},
            r"^recipe: made in Python, .* tadp_ray.train\(",
        ),
        ({"axes": AXES, "recipe": tadp_ray.build_recipe(**TINY)}, "^recipe: made in Python, .* changes="),
    ],
)
def test_what_names_no_sweep_is_refused_before_anything_runs(asked: dict[str, Any], said: str) -> None:
    for ask in (tadp_ray.read_experiment, tadp_ray.run_experiment):
        with pytest.raises(tadp_ray.UserError, match=said):
            ask(**asked)


def test_a_split_that_no_data_set_has_is_refused() -> None:
    with pytest.raises(tadp_ray.UserError, match="split='test': a recipe's data set has the splits 'train' and 'val'"):
        tadp_ray.open_dataset(tadp_ray.build_recipe(**TINY).data, "test")


def test_experiments_that_do_not_fit_are_refused(experiment: Path, tmp_path: Path) -> None:
    with pytest.raises(tadp_ray.UserError, match="there is no such store"):
        tadp_ray.read_experiment(experiment, tracking_uri=f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(tadp_ray.UserError, match=r"only='a=1': expected a list .* write only=\['a=1'\]"):
        tadp_ray.read_experiment(experiment, only="a=1", dry=True)
    with pytest.raises(tadp_ray.UserError, match="name='../x': expected letters"):
        tadp_ray.train(tadp_ray.build_recipe(**TINY), "../x")
    with pytest.raises(tadp_ray.UserError, match="^seed=-1: expected an integer from 0$"):
        tadp_ray.train(tadp_ray.build_recipe(**TINY), "mine", seed=-1)
    with pytest.raises(tadp_ray.UserError, match=r"tiny.yml: no such file; did you mean 'tiny.yaml'\?"):
        tadp_ray.read_experiment(experiment.with_suffix(".yml"), dry=True)


def test_trainings_are_refused_outside_the_main_thread(experiment: Path, tmp_path: Path) -> None:
    """Before anything is written, since they could not be stopped."""
    where = {"tracking_uri": f"sqlite:///{tmp_path}/own.db"}
    calls = [
        partial(tadp_ray.run_experiment, experiment, changes=[f"compute.storage={tmp_path}/runs"], **where),
        partial(tadp_ray.train, tadp_ray.build_recipe(**TINY), "mine", **where),
    ]
    with ThreadPoolExecutor(1) as executor:
        for call in calls:
            with pytest.raises(
                tadp_ray.UserError, match=r"signals, .*: call this from the main thread, or in a process of"
            ):
                executor.submit(call).result()
    assert not (tmp_path / "own.db").exists() and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("file", sorted((ROOT / "experiments/recipes").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_recipe_in_python_is_the_recipe_of_its_file(file: Path) -> None:
    recipe = tadp_ray.build_recipe(file)
    assert tadp_ray.build_recipe(recipe) == recipe == tadp_ray.build_recipe(file.stem)
    changed = tadp_ray.build_recipe(recipe, evaluation={"interval": 7})
    assert changed == recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"interval": 7})})


def test_defaults_of_a_base_recipe_are_not_taken_for_statements(tmp_path: Path) -> None:
    scenes = tadp_ray.build_recipe(**TINY)
    photographs = {"data": {"kind": "pascal_segmentation", "root": str(tmp_path)}, "augment": {"crop": 64}}
    with pytest.raises(tadp_ray.UserError, match="pascal_segmentation needs model.weights to be stated"):
        tadp_ray.build_recipe(scenes, **photographs)
    assert tadp_ray.build_recipe(scenes, **photographs, model={"weights": "pocket"}).model.weights == "pocket"
    # Made without stating its kind.
    made = scenes.model_copy(update={"data": type(scenes.data)()})
    assert tadp_ray.build_recipe(made, schedule={"iterations": 7}).data == made.data


def test_a_recipe_in_python_keeps_the_rules_of_files(experiment: Path) -> None:
    with pytest.raises(tadp_ray.UserError) as refused:
        tadp_ray.build_recipe(data={"kind": "moon"}, caption={"source": "oracle"}, schedule={"iteration": 3})
    said = str(refused.value)
    assert "build_recipe: data: unknown kind 'moon'; expected one of" in said
    assert "build_recipe: schedule.iteration=3: unknown key; did you mean 'iterations'?" in said
    file = experiment.parent / "recipe.yaml"
    file.write_text(file.read_text().replace("1e-3", "-1"))
    with pytest.raises(tadp_ray.UserError, match=f"{file}: schedule.learning_rate=-1: Input should be greater than 0"):
        tadp_ray.build_recipe(file, schedule={"iterations": 3})
    with pytest.raises(tadp_ray.UserError, match="use numbers, texts, lists and mappings"):
        tadp_ray.build_recipe(caption={"source": object()})


def test_a_recipe_is_checked_against_its_data() -> None:
    tadp_ray.check_recipe(tadp_ray.build_recipe(**TINY))
    with pytest.raises(tadp_ray.UserError, match="augment.crop=48: must be a multiple of 32"):
        tadp_ray.check_recipe(tadp_ray.build_recipe(**TINY, augment={"crop": 48}))


@pytest.mark.cluster
def test_python_trains_an_experiment_and_a_recipe_once_and_predicts(experiment: Path, store, tmp_path: Path) -> None:
    where = {"tracking_uri": store.uri, "quiet": True}
    changes = [f"compute.storage={tmp_path}/runs"]
    only = ["caption.recall=1.0", "caption.precision=1.0"]
    cells = tadp_ray.run_experiment(experiment, changes=changes, only=only, **where)
    assert [*cells.state] == ["finished"] and 0 <= cells.miou[0] <= 100
    assert cells.equals(tadp_ray.run_experiment(experiment, changes=changes, only=only, **where))
    asked = {"axes": AXES, "changes": changes, "only": only, "name": "without a file"}
    again = tadp_ray.run_experiment(recipe=experiment.parent / "recipe.yaml", **asked, **where)
    assert again.equals(cells) and tadp_ray.read_experiment("without a file", tracking_uri=store.uri).shape[0] == 4
    recipe = tadp_ray.build_recipe(
        experiment.parent / "recipe.yaml",
        caption={"precision": 1.0, "recall": 1.0},
        compute={"storage": str(tmp_path / "runs")},
    )
    row = tadp_ray.train(recipe, "from Python", **where)
    assert row.run_id == cells.run_id[0]  # the same cell, which is trained already
    sample = tadp_ray.open_dataset(recipe.data, "val")[0]
    found = tadp_ray.load_trained(row.run_id, tracking_uri=store.uri).predict(sample, PROMPT)
    assert found.mask.shape == (32, 32)


def test_the_notebook_runs_and_stores_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells are executed in order in one namespace, in the notebook's own folder, as Jupyter does it."""
    file = ROOT / "docs/notebooks/first_steps.ipynb"
    notebook = json.loads(file.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len({*ids}) == len(ids)
    monkeypatch.chdir(file.parent)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        assert {*cell} >= {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            exec(compile("".join(cell["source"]), f"{file.name}:{cell['id']}", "exec"), names)
    assert len(names["cells"]) == 9 and {*names["maps"].words} >= {"cat"}


@pytest.mark.parametrize("family", ["stable_diffusion_xl", "pixart"])
def test_other_families_give_the_features_of_their_recipes_and_maps_of_words(
    family: str, tiny_xl_folder: Path, tiny_pixart_folder: Path
) -> None:
    folder, levels = {"stable_diffusion_xl": (tiny_xl_folder, 3), "pixart": (tiny_pixart_folder, 4)}[family]
    backbone = tadp_ray.load_backbone(str(folder), backbone=family)
    latents = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(1))
    context = backbone.encode_prompt("a ox")
    assert context.shape == (1, backbone.context_length, backbone.context_width)
    found = backbone.features(latents, context, timestep=[1, 40])
    config = MODELS[family](backbone=family, weights=str(folder), timestep=[1, 40])
    made = family_of(config).make_backbone(backbone.diffusion, config, backbone.context_length, (32, 48))
    assert len(found) == len(backbone.channels) == len(made.strides) == levels and backbone.strides == made.strides
    for level, expected in zip(found, made(latents, context, None), strict=True):
        torch.testing.assert_close(level, expected)
    plain = backbone.features(latents, context, maps="none")
    assert tuple(level.shape[1] for level in plain) == backbone.channels
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    maps = backbone.attention_maps(image, "a ox")
    assert {*maps.words} == {"a", "ox"} and all(word.shape == (40, 60) for word in maps.words.values())
    # Of every layer the maps of all tokens, start, end and padding among them, sum to one.
    assert all(layer.sum(2).max() <= 1 + 1e-4 and layer.ndim == 5 for layer in maps.layers.values())
    assert len(maps.tokens) == {"stable_diffusion_xl": 5, "pixart": 6}[family]


def test_what_a_family_does_not_have_is_refused(tiny_pixart_folder: Path, backbone) -> None:
    latents = torch.zeros(1, 4, 16, 16)
    pixart = tadp_ray.load_backbone(str(tiny_pixart_folder), backbone="pixart")
    for keys, said in (
        ({"maps": "cross+self"}, r"maps='cross\+self': PixArt's maps are"),
        ({"map_layers": "decoder"}, r"map_layers=\('decoder',\): PixArt's maps are"),
        ({"layers": ("block9",)}, "^layers='block9': this transformer has no such block"),
        ({"layers": "decoder"}, "^layers='decoder': this transformer has no such block"),
        ({"timestep": []}, r"timestep=\[\]: there is none; name one"),
    ):
        with pytest.raises(UserError, match=said):
            pixart.features(latents, "ox", **keys)
    for keys, said in (
        ({"timestep": ()}, r"timestep=\(\): there is none; name one"),
        ({"layers": "spread"}, "^layers='spread': this U-Net has no such layer"),
        ({"map_layers": "up9.1"}, "^map_layers='up9.1': this U-Net has no such layer; did you mean 'up3.1'"),
        ({"maps": "all"}, "^maps='all': expected none or cross or cross.self"),
    ):
        with pytest.raises(UserError, match=said):
            backbone.features(latents, PROMPT, **keys)
    with pytest.raises(UserError, match="backbone='pixar': .* did you mean 'pixart'"):
        tadp_ray.load_backbone(backbone="pixar")
    with pytest.raises(UserError, match="a learned token is of one text encoder"):
        tadp_ray.load_backbone(str(tiny_pixart_folder), backbone="pixart", embeddings="token.bin")
