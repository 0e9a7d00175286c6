"""Caption stores: both forms are read, ours is written whole, and what is missing or torn is named."""

import json

import pytest

from tadp_ray.captions import CaptionStore, read_store
from tadp_ray.errors import UserError

STORE = CaptionStore({"b.jpg": ("a dog",), "a.jpg": ("ein Bär\u2028am See", "a bear")}, {"captioner": "by hand"})


def test_written_and_read_again_it_is_the_same_and_no_other_file_is_left(tmp_path):
    path = tmp_path / "new" / "store.jsonl"
    STORE.write(path)
    again = read_store(path)
    assert dict(again.captions) == dict(STORE.captions)
    assert again.header == {"captioner": "by hand", "caption_store": 1, "images": 2}
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_as_it_was(tmp_path):
    path = tmp_path / "store.jsonl"
    STORE.write(path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        CaptionStore({"a": (object(),)}).write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_published_form_is_read_and_the_digest_is_of_the_content_alone(tmp_path):
    path = tmp_path / "published.json"
    published = {i: {"captions": [*texts], "class_label": 3} for i, texts in reversed(STORE.captions.items())}
    path.write_text(json.dumps(published), encoding="utf-8")
    assert read_store(path)["a.jpg"] == STORE["a.jpg"]
    assert read_store(path).digest() == STORE.digest()
    assert CaptionStore({**STORE.captions, "b.jpg": ("a cat",)}).digest() != STORE.digest()


def test_all_published_files_are_read(shared):
    sizes = {path.name: len(read_store(path)) for path in (shared / "data/tadp/captions").glob("*.json")}
    assert len(sizes) == 11
    assert sizes["voc_extended_train_captions.json"] == 10_582
    assert sizes["pascal_object_captions_min40_max77.json"] == 21_503
    assert sizes["dark_zurich_captions_min=0_max=77.json"] == 50


def test_missing_ids_are_named_all_at_once_with_the_file_and_the_nearest_id(tmp_path):
    path = tmp_path / "store.jsonl"
    CaptionStore({f"ADE_val_{k:08}.jpg": ("a room",) for k in range(3)}).write(path)
    store = read_store(path)
    store.check(store.captions)
    with pytest.raises(
        UserError, match=r"store\.jsonl: no caption for 1 .*'ADE_val_00000002'.*'ADE_val_00000002\.jpg'"
    ):
        store["ADE_val_00000002"]
    with pytest.raises(UserError, match=r"for 8 image\(s\): 'q0', .*'q4', \.\.\. \(of 3 captioned images\)\. Point"):
        store.check([f"q{k}" for k in range(8)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {"captions": ["x"]},\n "b": {"capt', r"line 2, column 8: broken JSON .* cut short"),
        ("", r"line 1, column 1: broken JSON"),
        ('["a"]', r"expected one JSON object .* not a list"),
        ('{"a": ["x"]}', r"id 'a': expected an object with \"captions\""),
        ('{"a": {"captions": []}}', r"id 'a': expected .*at least one"),
        ('{"caption_store": 2}\n', r"line 1: caption_store 2 is unknown"),
        ('{"caption_store": 1, "images": 1}\n{"id": "a", "capt', r"line 2, column \d+: broken JSON"),
        ('{"caption_store": 1, "images": 1}\n{"captions": ["x"]}\n', r'line 2: "id" must be'),
        ('{"caption_store": 1, "images": 2}\n{"id": "a", "captions": ["x"]}\n', r"announces 2 images but 1 follow"),
        ('{"caption_store": 1, "images": 2}\n' + '{"id": "a", "captions": ["x"]}\n' * 2, r"line 3: .*'a'"),
    ],
)
def test_a_torn_or_misshapen_file_is_refused_by_place(tmp_path, text, message):
    path = tmp_path / "captions"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"{path}.*{message}"):
        read_store(path)


def test_a_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(UserError, match="absent.json: no such caption store; set caption.store"):
        read_store(tmp_path / "absent.json")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(UserError, match="image.png: not a caption store"):
        read_store(tmp_path / "image.png")
