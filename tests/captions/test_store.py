"""Caption stores: both forms are read, ours is written whole, and what is missing or torn is named."""

import json
from dataclasses import replace

import pytest

from tadp_ray.captions.convert import import_store
from tadp_ray.captions.store import CaptionStore, read_any, read_store
from tadp_ray.errors import UserError

STORE = CaptionStore({"b.jpg": ("a dog",), "a.jpg": ("ein Bär\u2028am See", "a bear")}, {"captioner": "by hand"})


def test_written_and_read_again_it_is_the_same_and_no_other_file_is_left(tmp_path):
    path = tmp_path / "new" / "store.jsonl"
    STORE.write(path)
    again = read_store(path)
    assert dict(again.captions) == dict(STORE.captions)
    assert again.header == {"captioner": "by hand", "caption_store": 1, "images": 2}
    assert list(path.parent.iterdir()) == [path]


TAGGED = CaptionStore(
    {"a": ("a cat", "a kitchen"), "b": ("a dog", "a dog"), "c": ("a cow",)},
    tags={"a": ("names", "scene"), "b": ("names", "scene")},
)


def test_captions_may_have_tags_by_which_one_is_chosen(tmp_path):
    TAGGED.write(tmp_path / "store.jsonl")
    published = {"a": {"captions": {"names": "a cat", "scene": "a kitchen"}}, "b": {"captions": {"scene": "a dog"}}}
    (tmp_path / "published.json").write_text(json.dumps(published))
    again = read_store(tmp_path / "store.jsonl")
    assert (dict(again.captions), dict(again.tags)) == (dict(TAGGED.captions), dict(TAGGED.tags))
    assert again.chosen(["a", "b"], "scene") == {"a": "a kitchen", "b": "a dog"}
    assert again.chosen(["c"], None) == {"c": "a cow"}
    assert read_store(tmp_path / "published.json").chosen(["b", "a"], "scene") == {"a": "a kitchen", "b": "a dog"}
    imported = import_store(tmp_path / "store.jsonl")
    assert imported.chosen(["b"], "scene") == {"b": "a dog"} and imported.digest() == TAGGED.digest()
    assert replace(TAGGED, tags={}).digest() != TAGGED.digest()
    assert replace(TAGGED, tags={**TAGGED.tags, "a": ("scene", "names")}).digest() != TAGGED.digest()


@pytest.mark.parametrize(
    ("ids", "tag", "said"),
    [
        (
            ["a", "b"],
            "places",
            r"s.jsonl, id 'a' \(2 of 2 images\): no caption for caption.tag='places'; .* tags: names, scene",
        ),
        (["a", "c"], "scene", r"s.jsonl, id 'c' \(1 of 2 images\): .*; its captions have no tags; leave the key out"),
        (["b"], None, r"s.jsonl, id 'b' .*caption.tag=None; choose one of its tags: names, scene"),
        (["d"], "scene", r"no caption for 1 image: 'd'"),
    ],
)
def test_a_tag_that_is_not_there_is_refused_with_those_that_are(tmp_path, ids, tag, said):
    TAGGED.write(tmp_path / "s.jsonl")
    with pytest.raises(UserError, match=said):
        read_store(tmp_path / "s.jsonl").chosen(ids, tag)


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
    # Precision and recall are of the names.
    assert CaptionStore(STORE.captions, names={"a.jpg": ("cat",)}).digest() != STORE.digest()


@pytest.mark.slow
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
        UserError, match=r"no caption for 2 .*the nearest id to 'ADE_val_00000000' there is 'ADE_val_00000000\.jpg'"
    ):
        store.check(["ADE_vol_00000002", "ADE_val_00000000"])
    with pytest.raises(UserError, match=r"for 8 images: 'q0', .*'q4' and 3 more \(of 3 captioned images\)\. Point"):
        store.check([f"q{k}" for k in range(8)])


@pytest.mark.parametrize(("captioned", "image"), [("p0.jpg", "p0"), ("ADE_val_1", "ADE_val_1.jpg")])
def test_ids_that_differ_by_an_ending_alone_name_the_command_that_mends_them(tmp_path, captioned, image):
    path = tmp_path / "store.jsonl"
    CaptionStore({captioned: ("a room",)}).write(path)
    with pytest.raises(UserError) as caught:
        read_store(path).check([image])
    told = str(caught.value)
    assert f"no caption for 1 image: {image!r} (of 1 captioned image); {image!r} is {captioned!r} there" in told
    made = tmp_path / "store.store.jsonl"
    assert f"tadp-ray caption import {path} --data RECIPE.yaml --out {made}, and name the new file in caption." in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {"captions": ["x"]},\n "b": {"capt', r"line 2, column 8: broken JSON .* cut short"),
        ("", "this caption store is empty"),
        ('["a"]', "not a caption store but a JSON list; tadp-ray caption import"),
        (
            '{"a": "x"}',
            r"id 'a': expected an object with .* not a text alone; tadp-ray caption import .*captions --data RECIPE.yaml --out "
            r".*captions.store.jsonl, and name the new file",
        ),
        ("image,caption\na,x\n", "not a caption store but a table; tadp-ray caption import"),
        ('{"file_name": "a", "text": "x"}\n', "not a caption store but one object a line; tadp-ray caption import"),
        ('{"images": [], "annotations": []}', "but captions in COCO's form; tadp-ray caption import"),
        (
            '{"a": {"captions": ["x \\ud83d"]}}',
            r"id 'a', captions: 'x \\ud83d' holds half a character, '\\ud83d', whose",
        ),
        ('{"\\udc00": {"captions": ["x"]}}', r"an id: '\\udc00' holds half a character"),
        (r'{"\u00e9": {"captions": ["x"]}, "e\u0301": {"captions": ["y"]}}', "occurs in two spellings of its accents"),
        (
            "my notes\nof today",
            "line 1: neither JSON nor a table with a column file_name, image, image_id, id: 'my notes",
        ),
        ("[" * 100_000, "line 1: nested too deeply"),
        ('{"a": ' + "1" * 5000 + "}", "line 1: nested too deeply or a number too long"),
        ('{"a": ["x"]}', r"id 'a': expected an object with \"captions\".*not a list alone; tadp-ray caption import"),
        ('{"a": {"captions": []}}', r"id 'a': expected .*at least one"),
        ('{"a": {"captions": {}}}', r"id 'a': expected .*at least one"),
        ('{"a": {"captions": {"scene": 3}}}', r"id 'a', captions: number 1 is 3 \(int\), where a string belongs"),
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
    with pytest.raises(UserError, match="absent.json: no such file; name a file of captions"):
        read_store(tmp_path / "absent.json")
    for content, said in (
        (b"\x89PNG\xff", "but a PNG image; name a text file"),
        (b"PK\x03\x04", "but a zip archive, such as an Excel sheet or a PyTorch file"),
    ):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(UserError, match=f"file: not a caption store {said}"):
            read_store(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"a\nb\xff")
    with pytest.raises(UserError, match="file: line 2 is not UTF-8 text; save the file as UTF-8"):
        read_store(tmp_path / "file")
    with pytest.raises(UserError, match="is a folder, not a file"):
        read_store(tmp_path)


def test_a_byte_order_mark_names_the_encoding(tmp_path):
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / encoding).write_text('{"a": {"captions": ["café"]}}', encoding=encoding)
        assert read_store(tmp_path / encoding)["a"] == ("café",)


def test_blank_lines_at_the_end_do_no_harm(tmp_path):
    (tmp_path / "s").write_text('{"caption_store": 1, "images": 1}\n{"id": "a", "captions": ["x"]}\n\n \n')
    assert read_store(tmp_path / "s")["a"] == ("x",)


@pytest.mark.parametrize(
    "text",
    [
        '{"a.png": "a cat, black", "b.png": "x\u2028y"}',
        '{"a.png": "a cat, black",\n "b.png": {"captions": ["x\u2028y"]}}',
        '\ufeffsplit,image,caption\ntrain,a.png,"a cat, black"\n\ntrain,b.png,x\u2028y\n',
        'text , file_name\r\n"a cat, black",a.png\r\nx\u2028y,b.png\r\n',
        '{"file_name": "a.png", "text": "a cat, black"}\n{"file_name": "b.png", "text": "x\u2028y"}\n\n',
        '{"id": "a.png", "caption": "a cat, black"}\n{"id": "b.png", "captions": ["x\u2028y"]}',
        '{"a.png": ["a cat, black"], "b.png": "x\u2028y"}',
        "image;caption\na.png;a cat, black\nb.png;x\u2028y\n",
        "image_id\tcaption\na.png\ta cat, black\nb.png\tx\u2028y\n",
        '[{"image_id": "a.png", "caption": "a cat, black"},\n {"image": "b.png", "caption": ["x\u2028y"]}]',
        """{"info": {}, "images": [{"id": 2, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}, {"id": 3, "file_name": "c"}],
        "annotations": [{"id": 8, "image_id": 1, "caption": "x\u2028y"}, {"image_id": 2, "caption": "a cat, black"}]}""",
    ],
)
def test_other_forms_are_read_for_an_import(tmp_path, text):
    (tmp_path / "file").write_bytes(text.encode())
    assert dict(read_any(tmp_path / "file").captions) == {"a.png": ("a cat, black",), "b.png": ("x\u2028y",)}


def test_numbers_are_ids_and_blank_lines_nothing(tmp_path):
    (tmp_path / "file").write_text('{"id": 7, "text": "x"}\n\n{"id": 8, "text": "y"}\n')
    assert dict(read_any(tmp_path / "file").captions) == {"7": ("x",), "8": ("y",)}


@pytest.mark.parametrize("text", ['{"id": "a", "text": "x"}\n{"id": "b", "text": "y"}', "image,caption\na,x\nb,y"])
def test_blank_lines_at_the_start_do_no_harm(tmp_path, text):
    (tmp_path / "file").write_bytes(b"\n\r\n" + text.encode())
    assert dict(read_any(tmp_path / "file").captions) == {"a": ("x",), "b": ("y",)}


def test_several_rows_of_an_image_are_several_captions(tmp_path):
    (tmp_path / "file").write_text("image,caption\na,one\nb,two\na,three\n")
    assert dict(read_any(tmp_path / "file").captions) == {"a": ("one", "three"), "b": ("two",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,label\na,x\n",
            "line 1: the table's columns are image, label; name that of the captions caption or text",
        ),
        ("\nimage,label\na,x\n", "line 2: the table's columns are image, label;"),
        (
            "image,caption,caption\na,x,y\n",
            "line 1: .* image, caption, caption; remove the second column of the same name",
        ),
        ("image,caption\na,x\nb,x,y\n", "line 3: 3 fields where the header has 2; put quotes around"),
        ('image,caption\na,"x\n', "line 2: not a CSV table"),
        ("image,caption\n,x\n", "line 2: an image's name must be a string, not ''"),
        ('{"id": "a", "text": "x"}\n{"id": 7.5, "text": "x"}', "line 2: an image's name must be a string, not 7.5"),
        ('{"id": "a", "text": "x"}\n{"name": "b"}', 'line 2: expected an object with an image\'s name .*not {"name"'),
        ('{"id": "a", "text": {"en": "x"}}', r"line 1: number 1 is .* \(dict\), where"),
        ('{"id": "a", "text": "x"}\n{"id": "b", "te', r"line 2, column \d+: broken JSON"),
        ('{"name": "a"}\n{"name": "b"}', "line 1: expected an object with an image's name"),
        ('{"a": "x", "b": 3}', "id 'b': expected an object"),
        ('{"a": "x", "a": "y"}', "'a' occurs twice"),
        ('[{"image": "a", "caption": "x"}, "b"]', 'entry 2: expected an object with an image\'s name .*not "b"'),
        ('{"images": [{"id": 1}], "annotations": []}', "images, entry 1: expected an id of its own and a file_name"),
        (
            """{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": []}""",
            "images, entry 2: expected an id of its own and a file_name",
        ),
        (
            """{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 2, "caption": "x"}]}""",
            "annotations, entry 1: expected the image_id of one of 1 image and a caption",
        ),
    ],
)
def test_what_is_in_no_known_form_is_refused_by_place(tmp_path, text, message):
    (tmp_path / "file").write_text(text)
    with pytest.raises(UserError, match=f"file.*{message}"):
        read_any(tmp_path / "file")
