"""The nouns of captions, as the paper's nouns-only prompts have them, found by a part-of-speech tagger."""

import re
from collections.abc import Callable, Sequence
from importlib.metadata import version

from tadp_ray.captions.store import CaptionStore
from tadp_ray.errors import UserError

WORD = re.compile(r"\w+(?:-\w+)*|'\w+|[^\w\s]")
"""A word, with its hyphens; what follows an apostrophe; or a punctuation mark."""
NOUNS = ("NN0", "NN1", "NN2")
"""Common nouns in the tags of the British National Corpus, which HanTa uses: neutral for number, singular, plural. The published
code keeps NLTK's NN and NNS, which are the same.
"""
Tag = Callable[[Sequence[str]], Sequence[str]]
"""Words of a caption -> their tags."""


def load_tagger() -> Tag:
    """Return HanTa's tagger for English, whose model is part of its package.

    Raises:
        UserError: HanTa is not installed.
    """
    try:
        from HanTa.HanoverTagger import HanoverTagger
    except ImportError:
        raise UserError("nouns are found by the package HanTa, which is not installed; pip install HanTa") from None
    tagger = HanoverTagger("morphmodel_en.pgz")
    return lambda words: tagger.tag_sent(list(words), taglevel=0)


def tagger_name() -> str:
    """Return the tagger's name with its version, for the header of a store."""
    return f"HanTa {version('HanTa')}"


def nouns_of(text: str, tag: Tag) -> list[str]:
    """Return the common nouns of a caption, each once, in the order of their first occurrence."""
    words = WORD.findall(text)
    return list(dict.fromkeys(word for word, kind in zip(words, tag(words), strict=True) if kind in NOUNS))


def nouns_store(store: CaptionStore, tag: Tag, tagger: str) -> CaptionStore:
    """Return a store whose captions are the nouns of another's, joined by spaces; a caption without nouns becomes empty.

    The header keeps how the captions were made, so that those of the ground truth stay an oracle's.

    Args:
        store: of any captions; tags are kept.
        tag: the tagger.
        tagger: its name, for the header.
    """
    captions = {name: tuple(" ".join(nouns_of(text, tag)) for text in texts) for name, texts in store.captions.items()}
    header = {**store.origin(whole=False), "nouns_of": store.digest(), "tagger": tagger}
    return CaptionStore(captions, header, tags=store.tags)
