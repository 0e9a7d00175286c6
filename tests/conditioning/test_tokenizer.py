"""The text half of a Stable Diffusion by itself counts tokens and compares words."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from tadp_ray.backbones.stable_diffusion.load import load_diffusion
from tadp_ray.conditioning.similarity import text_similarity
from tadp_ray.conditioning.text_encoder import class_embedding, count_tokens, encode_names, encode_prompts
from tadp_ray.conditioning.tokenizer import check_length, load_tokenizer, name_places, word_places
from tadp_ray.errors import UserError


@pytest.mark.slow
def test_words_are_compared_by_the_states_at_their_eos_tokens() -> None:
    words, names = ["a car", "tree", "zebra crossing"], ["car", "tree"]
    found = text_similarity("pocket")(words, names)
    pocket = load_diffusion("pocket")
    state = lambda text: class_embedding(pocket.tokenizer, pocket.text_encoder, text, ["{}"])
    wanted = [[cosine_similarity(state(word), state(name), dim=0) for name in names] for word in words]
    np.testing.assert_allclose(found, torch.tensor(wanted).numpy(), atol=1e-5)
    assert found[1, 1] == pytest.approx(1) and found[2].max() < 0.9


def test_a_tokenizer_is_found_in_weights_and_by_itself(shared: Path, tmp_path: Path) -> None:
    assert load_tokenizer("pocket")[1] == 75
    tokenizer, budget = load_tokenizer(str(shared / "data/weights/clip_tokenizer_hf"))
    assert budget == 75 and count_tokens(tokenizer, "dining table " * 100) == 200
    single = tmp_path / "single.safetensors"
    single.touch()
    with pytest.raises(
        UserError,
        match=r"model\.weights='.*single\.safetensors': a single file holds no tokenizer; name a diffusers folder",
    ):
        load_tokenizer(str(single))


def test_a_prompt_may_be_as_long_as_the_text_encoder_reads() -> None:
    tokenizer, budget = load_tokenizer("pocket")
    check_length(tokenizer, "cat " * budget)
    with pytest.raises(
        UserError, match="the prompt has 76 tokens, .* reads 75: it would be cut behind 'cat cat cat cat'"
    ):
        check_length(tokenizer, "cat " * (budget + 1))


def test_places_of_names_are_those_of_a_list_though_one_name_is_in_another() -> None:
    pocket, names = load_diffusion("pocket"), ["panda bear", "grass", "bear"]
    places = name_places(pocket.tokenizer, names)
    tokens = pocket.tokenizer(" ".join(names)).input_ids
    said = [pocket.tokenizer.decode(tokens[own.start : own.stop]).split() for own in places]
    assert said == [["panda", "bear"], ["grass"], ["bear"]]
    assert word_places(pocket.tokenizer, " ".join(names), "bear") == (2,)
    # Nothing that touches a word is a part of it.
    assert word_places(pocket.tokenizer, "a cat, a dog", "cat") == (2,)
    one_by_one = encode_names(pocket.tokenizer, pocket.text_encoder, names)
    alone = encode_prompts(pocket.tokenizer, pocket.text_encoder, ["bear"])[0]
    torch.testing.assert_close(one_by_one[list(places[-1])], alone[1:2])
