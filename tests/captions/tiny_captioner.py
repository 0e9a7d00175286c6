"""Random captioners of the real architectures, and of the smallest sizes that have every part."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    PreTrainedTokenizerFast,
)

SIDE = 16
WORDS = "a the cat dog car tree grass sky on of with two big red blue sits stands runs near under photo".split()
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def write_blip(folder: Path) -> Path:
    """A BLIP with a vocabulary of words."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join([*MARKS, *WORDS]))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    text = {
        **SMALL,
        "encoder_hidden_size": 16,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 100,
        "bos_token_id": 2,
        "sep_token_id": 3,
        "eos_token_id": 3,
        "pad_token_id": 0,
        "initializer_range": 1.0,
    }
    vision = {**SMALL, "image_size": SIDE, "patch_size": 8, "initializer_range": 1.0}
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=16, image_text_hidden_size=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": SIDE, "width": SIDE}), tokenizer).save_pretrained(folder)
    return folder


def write_blip2(folder: Path) -> Path:
    """A BLIP-2 with an OPT of words."""
    vocabulary = {word: index for index, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS, "<image>"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    text = {
        "model_type": "opt",
        "hidden_size": 16,
        "word_embed_proj_dim": 16,
        "ffn_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": len(vocabulary),
        "max_position_embeddings": 120,
        "init_std": 1.0,
    }
    config = Blip2Config(
        vision_config={**SMALL, "image_size": SIDE, "patch_size": 8, "initializer_range": 1.0},
        qformer_config={**SMALL, "encoder_hidden_size": 16, "vocab_size": 30, "initializer_range": 1.0},
        text_config=text,
        num_query_tokens=4,
        image_token_index=vocabulary["<image>"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Blip2ForConditionalGeneration(config).save_pretrained(folder)
    processor = Blip2Processor(BlipImageProcessor(size={"height": SIDE, "width": SIDE}), tokenizer, num_query_tokens=4)
    processor.save_pretrained(folder)
    return folder
