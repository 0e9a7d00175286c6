"""Each caption source gives every image the prompt that a recipe asked for, and cut prompts are counted."""

import numpy as np
import pytest

from tadp_ray.captions.oracle import degraded_store
from tadp_ray.captions.prompts import as_text, make_prompts
from tadp_ray.captions.sources import Captions
from tadp_ray.captions.store import CaptionStore
from tadp_ray.config.data import CaptionConfig
from tadp_ray.errors import UserError
from tadp_ray.registry import CAPTION_SOURCES, CaptionSourceEntry

CLASSES = ("bird", "cow", "potted plant", "sofa")
PRESENT = {"a": ("cow", "bird"), "b": ("sofa",), "c": ()}


def prompts(present=PRESENT, classes=CLASSES, budget=75, source="oracle", **caption):
    return make_prompts(
        CaptionConfig(source=source, **caption), present, classes, 0, lambda text: len(text.split()), budget
    )


def test_each_source_gives_its_prompts(tmp_path):
    CaptionStore({"a": ("a cow", "second"), "b": ("a sofa",), "c": ("",), "d": ("d",)}).write(tmp_path / "store")
    assert dict(prompts(source="null").by_id) == {"a": "", "b": "", "c": ""}
    assert {*prompts(source="class_names").by_id.values()} == {"bird cow potted plant sofa"}
    assert dict(prompts(source="oracle").by_id) == {"a": "bird cow", "b": "sofa", "c": ""}
    assert dict(prompts(source="store", store=tmp_path / "store").by_id) == {"a": "a cow", "b": "a sofa", "c": ""}
    assert {*prompts(source="sentence", sentence="a photo").by_id.values()} == {"a photo"}
    names = ("bird", "cow", "potted plant", "sofa")
    apart = prompts(source="class_names", encoding="names").by_id
    assert {*apart.values()} == {names} and as_text(apart["a"]) == "bird, cow, potted plant, sofa"
    assert dict(prompts(source="oracle", encoding="class_embeddings").by_id) == {
        "a": names[:2],
        "b": names[3:],
        "c": (),
    }
    CaptionStore(dict.fromkeys(PRESENT, ("a cow and a bird before a sofa",))).write(tmp_path / "long")
    mixed = prompts(source="store", store=tmp_path / "long", shuffle=True)
    assert len({*mixed.by_id.values()}) == 3  # each image's words in an order of its own
    assert {" ".join(sorted(text.split())) for text in mixed.by_id.values()} == {"a a a and before bird cow sofa"}


def test_shuffled_deals_the_oracles_prompts_out_anew_and_wrong_names_nothing_that_is_there():
    oracle, dealt = prompts(), prompts(source="shuffled")
    assert sorted(dealt.by_id.values()) == sorted(oracle.by_id.values())
    assert all(dealt[image_id] != oracle[image_id] for image_id in PRESENT)
    wrong = prompts(source="wrong")
    assert (wrong.score.precision, wrong.score.recall) == (0.0, 0.0)
    assert [len(wrong[image_id].replace("potted plant", "plant").split()) for image_id in PRESENT] == [2, 1, 0]


def test_all_images_without_a_caption_are_named_before_any_is_used(tmp_path):
    CaptionStore({"a": ("a cow",)}).write(tmp_path / "store")
    with pytest.raises(UserError, match="no caption for 2 image.*'b', 'c'"):
        prompts(source="store", store=tmp_path / "store")


@pytest.mark.parametrize(
    ("made", "encoding", "said"),
    [
        ({"a": "cow"}, "text", "returned a dict, expected Captions"),
        (None, "text", "returned None, expected Captions"),
        (Captions({"a": "cow"}), "text", "no prompt for 2 images: 'b', 'c'"),
        (Captions(["cow"] * 3), "text", "no prompt by image id: they are a list, expected a dict"),
        (Captions({"a": ["cow"], "b": "", "c": ""}), "text", "prompt of 'a' is a list, expected a text or a tuple of texts"),
        (Captions({"a": "cow", "b": (), "c": ()}), "names", "prompt of 'a' is a text, expected a tuple of names"),
        (Captions({"a": (), "b": (1,), "c": ()}), "names", "prompt of 'b' is a tuple, expected a text or a tuple of texts"),
        (Captions({"a": ("cow",), "b": "", "c": ""}), "text", "expected a text, which caption.encoding: text reads"),
        (Captions(dict.fromkeys("abc", ""), {"a": ()}), "text", "no names for 2 images: 'b', 'c'"),
        (Captions(dict.fromkeys("abc", ""), dict.fromkeys("abc", "cow")), "text", "names of 'a' are a str, expected a tuple"),
    ],
)  # fmt: skip
def test_what_a_source_of_a_plug_in_makes_is_checked(monkeypatch, made, encoding, said):
    monkeypatch.setitem(CAPTION_SOURCES._entries, "class_names", CaptionSourceEntry(lambda _: made, "a plug-in's"))
    with pytest.raises(UserError, match=f"^caption source 'class_names'.*{said}"):
        prompts(source="class_names", encoding=encoding)


def test_captions_of_further_images_are_left_out(monkeypatch):
    made = Captions(dict.fromkeys("abcdef", "cow"))
    monkeypatch.setitem(CAPTION_SOURCES._entries, "class_names", CaptionSourceEntry(lambda _: made, "a plug-in's"))
    told = prompts(source="class_names")
    assert [*told.by_id] == [*PRESENT] and told.score.precision == 1 / 3 and {*told.fits} == {*PRESENT}


def test_every_source_tells_how_well_its_names_fit(voc, voc_classes, tmp_path):
    degraded = prompts(voc, voc_classes, precision=0.5, recall=0.75)
    assert (degraded.score.precision, degraded.score.recall) == pytest.approx((0.5, 0.75), abs=0.01)
    assert degraded.score.macro_recall == pytest.approx(0.75, abs=0.02)
    everything = prompts(source="class_names")
    assert (everything.score.precision, everything.score.recall) == (3 / 12, 1.0)
    empty = prompts(recall=0.0, min_true=0)
    assert (empty["a"], empty.score.precision, empty.score.recall) == ("", None, 0.0)
    CaptionStore({"a": ("two cows on a couch",), "b": ("a settee",), "c": ("",)}).write(tmp_path / "store")
    stored = prompts(source="store", store=tmp_path / "store")
    assert (stored.score.precision, stored.score.recall) == (2 / 3, 2 / 3)
    CaptionStore({i: ("a bird", "a cow") for i in "abc"}, tags=dict.fromkeys("abc", ("one", "two"))).write(
        tmp_path / "tags"
    )
    assert prompts(source="store", store=tmp_path / "tags", tag="two")["b"] == "a cow"
    assert (stored.fits["a"].precision, stored.fits["a"].recall, stored.fits["b"].recall) == (0.5, 0.5, 1.0)


def test_a_template_forgets_and_invents_each_name_by_itself(voc, voc_classes):
    asked = {"precision": 0.5, "recall": 0.75}
    template = prompts(voc, voc_classes, source="template", **asked)
    assert (template.score.precision, template.score.recall) == pytest.approx((0.5, 0.75), abs=0.01)
    crowd = {str(k): voc_classes[k % 5 + 1 : k % 5 + 9] for k in range(400)}
    recalls = {
        source: np.array([fit.recall for fit in prompts(crowd, voc_classes, source=source, **asked).fits.values()])
        for source in ("oracle", "template")
    }
    assert recalls["oracle"].std() < 0.01, "an oracle says the same share of every image"
    assert recalls["template"].std() == pytest.approx((0.75 * 0.25 / 8) ** 0.5, rel=0.15), "as coins that are tossed"
    assert dict(prompts(source="template").by_id) == {
        "a": "a photo of bird and cow",
        "b": "a photo of sofa",
        "c": "a photo",
    }
    assert prompts(source="template", wording="names")["a"] == "bird cow"
    assert prompts(source="template", budget=5).truncated == 1


def test_distractors_are_said_falsely_where_nearly_every_class_is_in_every_image():
    streets = {str(k): ("bird", "cow", "sofa") for k in range(8)}
    with pytest.raises(UserError, match="only 8 .* name things that are in no image in caption.distractors"):
        prompts(streets, precision=0.5)
    degraded = prompts(streets, precision=0.5, distractors=("piano", "oven"))
    assert (degraded.score.precision, degraded.score.recall) == (0.5, 1.0)
    assert degraded["0"] == "bird cow potted plant sofa piano oven"
    with pytest.raises(UserError, match="'cow' is a class already"):
        prompts(streets, distractors=("cow",))
    for word, name in (("Cow", "cow"), ("potted  plant", "potted plant"), ("birds", "bird"), ("couch", "sofa")):
        with pytest.raises(UserError, match=f"'{word}' is another word for the class '{name}'"):
            prompts(streets, distractors=(word,))


def test_wrong_names_are_distractors_where_every_class_is_in_the_image():
    streets = {str(k): CLASSES for k in range(8)}
    assert {*prompts(streets, source="wrong").by_id.values()} == {""}
    wrong = prompts(streets, source="wrong", distractors=("piano", "oven"))
    assert {*wrong.by_id.values()} == {"piano oven"} and (wrong.score.precision, wrong.score.recall) == (0, 0)


def test_prompts_over_the_budget_are_counted_never_silent():
    assert prompts(source="class_names", budget=4).truncated == 3
    assert prompts(source="class_names", budget=5).truncated == 0
    # Each name is encoded by itself.
    assert prompts(source="class_names", encoding="names", budget=2).truncated == 0


def test_names_that_the_text_encoder_does_not_read_are_not_said(tmp_path):
    """A name of two words is read whole or not at all, and a sentence is read after its words were shuffled."""
    for budget, said in ((2, CLASSES[:2]), (3, CLASSES[:2]), (4, CLASSES[:3]), (5, CLASSES)):
        assert {*prompts(source="class_names", budget=budget).said.values()} == {said}
    cut = prompts(source="class_names", budget=2)
    assert (cut.score.precision, cut.score.recall) == (2 / 6, 2 / 3) and not cut.fits["b"].said & {"sofa"}
    assert {*prompts(source="class_names", encoding="names", budget=2).said.values()} == {CLASSES}
    CaptionStore(dict.fromkeys(PRESENT, ("a cow before a sofa",))).write(tmp_path / "store")
    store = {"source": "store", "store": tmp_path / "store", "budget": 2}
    assert {*prompts(**store).said.values()} == {("cow",)}
    mixed = prompts(**store, shuffle=True)
    for image_id, text in mixed.by_id.items():
        assert {*mixed.said[image_id]} == {*text.split()[:2]} & {"cow", "sofa"}


def test_a_store_that_was_made_from_the_classes_keeps_its_distractors(tmp_path):
    """Found by their words, the names would be right too often, since a distractor is none of the classes."""
    oracle = CaptionStore(
        {"a": ("bird cow",), "b": ("sofa",), "c": ("",)}, {"captioner": "oracle", "classes": CLASSES}, names=PRESENT
    )
    made = {"precision": 0.5, "recall": 1.0, "seed": 0, "distractors": ("piano", "oven", "boat")}
    degraded = degraded_store(oracle, **made, count_tokens=lambda text: len(text.split()), budget=75)
    degraded.write(tmp_path / "store")
    read = prompts(source="store", store=tmp_path / "store")
    found = read.score
    assert (found.precision, found.recall) == (degraded.header["realised"]["precision"], 1.0) and found.precision < 0.7
    # The words alone are known of other classes, and of nouns: its distractors, but not "potted plant".
    other = prompts(source="store", store=tmp_path / "store", classes=("bird", "cow", "sofa"))
    assert other.score.precision == 3 / 5


def test_another_images_names_need_another_image():
    with pytest.raises(UserError, match="shuffled: needs two images or more"):
        prompts({"a": ("cow",)}, source="shuffled")


def test_the_tokens_of_a_prompt_are_the_sum_over_its_names_in_the_real_tokenizer(shared, voc_classes):
    """The oracle's token budget adds up names; CLIP splits at spaces, so nothing merges across them."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(shared / "data/weights/clip_tokenizer_hf")
    count = lambda text: len(tokenizer(text)["input_ids"]) - 2
    assert count(" ".join(voc_classes)) == sum(map(count, voc_classes)) == 23


def test_modifiers_take_captions_up_one_after_the_other_and_leave_them_room():
    modifiers = ("a photo of {caption}", "{caption} in a dark night style")
    assert prompts(modifiers=modifiers)["b"] == "a photo of sofa in a dark night style"
    assert prompts(source="null", modifiers=modifiers)["b"] == "a photo of  in a dark night style"
    crowded = prompts({"a": ("bird", "cow", "sofa")}, budget=10, precision=0.75, modifiers=modifiers)
    assert crowded.truncated == 0 and crowded["a"].endswith("night style")
    with pytest.raises(UserError, match="has 8 tokens without a caption, of which this model's text encoder reads 8"):
        prompts(budget=8, modifiers=modifiers)
    with pytest.raises(ValueError, match=r"modifiers: 'at night' must hold \{caption\} once"):
        prompts(modifiers=("at night",))
    with pytest.raises(ValueError, match="modifiers make a sentence"):
        prompts(source="class_names", encoding="names", modifiers=modifiers)
