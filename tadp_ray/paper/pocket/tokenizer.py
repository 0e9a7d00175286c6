"""A CLIP tokenizer built from a word list: each word is one token, other text is split into letters."""

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from tadp_ray.captions.describe import plural
from tadp_ray.data.drawings import NAMES, SYNONYMS
from tadp_ray.files import write_text

START, END = "<|startoftext|>", "<|endoftext|>"

_ENGLISH = """
a an the this that these those of in on at to by with and or not no nor for from as is are was be it its his her their
one two three four five six seven eight nine ten some many few more most all each other another same such only very
there here where when what who which how up down out over under above below behind near far next left right front back
top bottom side middle inside outside around across along between through before after into onto off away
photo picture image painting drawing sketch comic cartoon watercolor art style view scene video frame camera
dark night day daytime nighttime morning evening light bright sunny cloudy rain rainy snow snowy fog foggy shadow
red orange yellow green blue purple pink brown black white gray grey colorful big small large little tall short long
wide old new young round open closed empty full clear wet dry
sky building pole road pavement tree sign symbol fence car pedestrian bicyclist grass sand bush cat dog bus chair sofa
street sidewalk path lane wall window door roof house bridge tower city town park field hill mountain river lake sea
ocean beach water tree trees leaf flower plant ground floor ceiling stone rock dirt earth terrain vegetation
traffic light lamp column lamppost post truck van train tram motorcycle motorbike bicycle bike rider person people man
woman boy girl child animal bird horse cow sheep boat ship aeroplane airplane airport plane helicopter
bottle table diningtable dining tvmonitor tv monitor screen potted bed desk book shelf cabinet cup box bag
sitting standing walking running driving parked riding holding looking lying playing
void background object thing snow far away behind sticker
""".split()
_NAMES = [*NAMES, *(word for words in SYNONYMS.values() for word in words)]
WORDS = [*_ENGLISH, *_NAMES, *map(plural, _NAMES)]
"""Common words, and those that scenes are described with."""


def _byte_symbols() -> list[str]:
    """Return the printable symbols of the 256 bytes in the byte-pair encodings of GPT-2 and CLIP."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in kept]
    return [chr(byte) for byte in kept] + [chr(256 + rank) for rank in range(len(moved))]


def _merge(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Apply byte-pair merges to one lower-case ASCII word, best rank first."""
    symbols = [*word[:-1], word[-1] + "</w>"]
    while len(symbols) > 1:
        pairs = list(pairwise(symbols))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            return symbols
        index = pairs.index(best)
        symbols[index : index + 2] = ["".join(best)]
    return symbols


def write_tokenizer(folder: Path, words: Iterable[str] = WORDS) -> None:
    """Write vocab.json and merges.txt for `CLIPTokenizer.from_pretrained(folder)`."""
    ranks: dict[tuple[str, str], int] = {}
    for word in dict.fromkeys(words):
        # A new merge has a lower priority than older ones, so previous words remain one token.
        while len(symbols := _merge(word, ranks)) > 1:
            ranks[symbols[0], symbols[1]] = len(ranks)
    letters = _byte_symbols()
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in ranks] + [START, END]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "vocab.json", json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in ranks)]
    write_text(folder / "merges.txt", "\n".join(lines) + "\n")
