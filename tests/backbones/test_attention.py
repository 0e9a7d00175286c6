"""Maps of every layer, and where a prompt's words stand among them."""

import pytest
import torch

from tadp_ray.backbones.latent.attention import reading_layers
from tadp_ray.backbones.stable_diffusion.attention import cross_layers, reading_maps
from tadp_ray.backbones.stable_diffusion.load import Diffusion, load_diffusion
from tadp_ray.conditioning.tokenizer import check_length, word_places
from tadp_ray.errors import UserError


def test_all_sixteen_layers_are_read_head_by_head(tiny_diffusion: Diffusion) -> None:
    """Two going down and three going up at three levels, one in the middle; the averages that models use agree with them."""
    rng = torch.Generator().manual_seed(0)
    latents, text = torch.randn(2, 4, 24, 40, generator=rng), torch.randn(2, 7, 20, generator=rng)
    names = list(cross_layers(tiny_diffusion.unet))
    downs = [f"down{level}.{place}" for level in range(3) for place in range(2)]
    ups = [f"up{level}.{place}" for level in (2, 1, 0) for place in range(3)]
    assert names == [*downs, "mid.0", *ups]
    with torch.no_grad():
        with reading_layers(cross_layers(tiny_diffusion.unet)) as layers:
            tiny_diffusion.unet(latents, 1, text)
        with reading_maps(tiny_diffusion.unet, {1: [name for name in names if name[-3] == "1"]}, True) as averages:
            tiny_diffusion.unet(latents, 1, text)
    assert list(layers) == names, "in the order of the pass"
    places = {"0": 24 * 40, "1": 12 * 20, "2": 6 * 10, "d": 3 * 5}
    for name, maps in layers.items():
        assert maps.shape == (2, 2, places[name[-3]], 7)
        torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))
    level = [maps.mean(1) for name, maps in layers.items() if name[-3] == "1"]
    for one, other in zip(level, averages[1, "cross"], strict=True):
        torch.testing.assert_close(one, other)


def test_words_are_found_whole_and_with_all_their_tokens() -> None:
    tokenizer = load_diffusion("pocket").tokenizer
    prompt = "A cat, a zebra's catalogue and snow"
    ids = tokenizer(prompt).input_ids
    told = lambda word: "".join(tokenizer.convert_ids_to_tokens([ids[p] for p in word_places(tokenizer, prompt, word)]))
    assert told("cat") == "cat</w>" and word_places(tokenizer, prompt, "cat") == (2,)
    assert told("catalogue").replace("</w>", "") == "catalogue"
    assert told("zebra's catalogue").replace("</w>", "") == "zebra'scatalogue"
    assert word_places(tokenizer, prompt, "SNOW") == (len(ids) - 2,)
    with pytest.raises(UserError, match="'dog' is not in the prompt; its words are A, cat, a, zebra's, catalogue"):
        word_places(tokenizer, prompt, "dog")
    check_length(tokenizer, "cat " * 75)
    with pytest.raises(UserError, match="has 76 tokens, and the text encoder reads 75.*'cat cat cat cat'"):
        check_length(tokenizer, "dog " * 60 + "cat " * 15 + "fox")
