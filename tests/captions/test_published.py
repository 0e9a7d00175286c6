"""The published caption files and the real label maps of Pascal VOC, through the commands' own functions."""

import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from tadp_ray.captions.convert import import_store
from tadp_ray.captions.oracle import degraded_store, oracle_store
from tadp_ray.captions.statistics import statistics
from tadp_ray.captions.store import CaptionStore, read_store
from tadp_ray.cli.inputs import by_id, names_in_masks
from tadp_ray.conditioning.text_encoder import count_tokens

# Images, captions, words (mean, median, min, max), tokens (mean, 95 of 100, max), repeated captions. Words were counted of
# all captions, tokens without those that an image has twice.
PUBLISHED = {
    "pascal_captions_min=40_max=77_nouns_only": (17_125, 17_125, (7.1, 7, 1, 24), (7.4, 12, 67), 0),
    "pascal_class_names": (12_031, 12_031, (2.5, 2, 1, 8), (2.5, 4, 8), 0),
    "pascal_all_class_names": (12_031, 12_031, (23, 23, 23, 23), (23, 23, 23), 0),
    "voc_extended_train_captions": (10_582, 10_582, (7.7, 7, 3, 19), (7.8, 12, 27), 0),
    "voc_val_captions": (1_449, 1_449, (7.8, 8, 3, 18), (7.9, 12, 21), 0),
    "voc_extended_train_val_captions": (12_031, 12_031, (7.7, 8, 3, 19), (7.8, 12, 27), 0),
    "pascal_object_captions_min40_max77": (21_503, 27_326, (8.0, 8, 2, 19), (8.3, 12, 27), 5_823),
    "watercolor_captions": (1_000, 1_000, (7.2, 7, 2, 16), (7.3, 12, 18), 0),
    "comic_captions": (1_000, 1_000, (8.7, 8, 2, 19), (9.1, 14, 21), 0),
    "dark_zurich_captions_min=0_max=77": (50, 50, (6.5, 6, 2, 11), (6.5, 9, 11), 0),
    "nighttimedriving_captions_min=0_max=77": (50, 50, (4.8, 6, 2, 9), (5.0, 9, 9), 0),
}
GRID = [(precision, recall) for precision in (0.5, 0.75, 1.0) for recall in (0.5, 0.75, 1.0)]


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    """Where the published caption files lie."""
    return shared / "data/tadp/captions"


@pytest.fixture(scope="module")
def count(shared: Path) -> Callable[[str], int]:
    """Tokens as Stable Diffusion's own tokenizer counts them."""
    return partial(count_tokens, CLIPTokenizer.from_pretrained(shared / "data/weights/clip_tokenizer_hf"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_file_is_imported_with_its_counts_and_lengths(folder, count, tmp_path, name):
    images, captions, words, tokens, repeated = PUBLISHED[name]
    source = folder / f"{name}.json"
    found = statistics(read_store(source), count, 75)
    assert (found["images"], found["captions"], found["repeated"], found["over_budget"]) == (
        images,
        captions,
        repeated,
        0,
    )
    assert [found["words"][key] for key in ("mean", "median", "min", "max")] == pytest.approx([*words], abs=0.051)

    import_store(source).write(tmp_path / "store")
    again = read_store(tmp_path / "store")
    lengths = statistics(again, count, 75)["tokens"]
    print(f"{name}: {images:,} images, tokens", *(f"{key} {value:.1f}" for key, value in lengths.items()))
    assert [lengths[key] for key in ("mean", "p95", "max")] == pytest.approx([*tokens], abs=0.051)
    assert {i: {*texts} for i, texts in again.captions.items()} == {
        i: {*texts} for i, texts in read_store(source).captions.items()
    }
    assert (again.header["repeats_dropped"], sum(map(len, again.captions.values()))) == (repeated, captions - repeated)


def test_no_published_file_was_left_out(folder):
    assert {path.stem for path in folder.glob("*.json")} == PUBLISHED.keys()


def test_night_captions_take_the_ids_of_a_folder_of_images(folder):
    published = read_store(folder / "nighttimedriving_captions_min=0_max=77.json")
    stems = {image_id.removeprefix("night/").removesuffix(".png") for image_id in published.captions}
    store = import_store(published.path, stems)
    assert store.captions.keys() == stems and store.header["rekeyed"] == 50


@pytest.fixture(scope="module")
def splits(shared, folder, voc_classes, tmp_path_factory) -> dict[str, CaptionStore]:
    """Oracle stores of Pascal VOC's training and validation images, from their label maps."""
    with tarfile.open(shared / "data/voc/SegmentationClassAug_all12031.tar.gz") as archive:
        archive.extractall(place := tmp_path_factory.mktemp("voc"), filter="data")
    present = names_in_masks(by_id(f"{place}/**/*.png"), voc_classes, [255], False)
    assert len(present) == 12_031
    files = {"train": "voc_extended_train_captions.json", "val": "voc_val_captions.json"}
    ids = {split: read_store(folder / file).captions for split, file in files.items()}
    return {split: oracle_store({i: present[i] for i in ids[split]}, voc_classes, {}) for split in files}


@pytest.mark.slow
def test_oracles_of_the_label_maps_are_those_of_the_published_code(splits, folder):
    """For the training images these were made of random crops, which miss a class here and there."""
    published = read_store(folder / "pascal_class_names.json").captions
    equal = {
        split: sum(published[i] == texts for i, texts in store.captions.items()) for split, store in splits.items()
    }
    assert equal == {"train": 10_187, "val": 1_449}


@pytest.mark.slow
def test_each_target_of_the_grid_is_met_on_train_and_val_apart(splits, count):
    for split, oracle in splits.items():
        for precision, recall in GRID:
            settings = {"precision": precision, "recall": recall, "seed": 0, "count_tokens": count, "budget": 75}
            store = degraded_store(oracle, **settings)
            # The background is said where it is shown, and counts in neither figure.
            assert all(("background" in store.names[i]) == ("background" in shown) for i, shown in oracle.names.items())
            said, true = ({i: {*names} - {"background"} for i, names in each.names.items()} for each in (store, oracle))
            hits = sum(len(said[i] & true[i]) for i in true)
            realised = hits / sum(map(len, said.values())), hits / sum(map(len, true.values()))
            print(f"{split:5} asked {precision:.2f} {recall:.2f} realised {realised[0]:.4f} {realised[1]:.4f}")
            assert realised == pytest.approx((precision, recall), abs=0.01)
            assert (store.header["realised"]["precision"], store.header["realised"]["recall"]) == realised
            backwards = CaptionStore(oracle.captions, oracle.header, names=dict(reversed(oracle.names.items())))
            assert degraded_store(backwards, **settings).digest() == store.digest()
