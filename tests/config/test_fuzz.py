"""Whatever is done to a file of settings, it is read or refused with words; no other exception, and no long wait."""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tadp_ray.config.load import (
    load_analysis,
    load_personalization,
    load_recipe,
    load_search,
    load_sweep,
)
from tadp_ray.config.resolve import load_experiment
from tadp_ray.config.vocabulary import StrictModel
from tadp_ray.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
LOADS: dict[str, tuple[str, Callable[[Path], StrictModel], int]] = {
    "recipe": ("experiments/recipes/*.yaml", load_recipe, 150),
    "experiment": ("experiments/*.yaml", lambda path: load_experiment(path).experiment, 60),
    "sweep": ("sweeps/[!s]*.yaml", load_sweep, 60),
    "search": ("sweeps/search_*.yaml", load_search, 30),
    "analysis": ("experiments/analyses/*.yaml", load_analysis, 60),
    "personalization": ("experiments/personalization/*.yaml", load_personalization, 60),
}
WORDS = [
    "yes",
    "null",
    "-1",
    "0",
    "1e999",
    ".nan",
    "-0.0",
    "9" * 99,
    "''",
    "' '",
    "[]",
    "{}",
    "[[1], {a: b}]",
    "{kind: scenes}",
]
WORDS += [
    "*a",
    "&a [*a]",
    "!!binary x",
    "<<",
    "|",
    ">",
    "?",
    "'",
    '"\\ud800"',
    '"\\0"',
    "~nobody-here/x",
    "s3://a:b@[c",
    "http://[::",
]
WORDS += [
    "2024-01-01",
    "**x",
    "/",
    ".",
    "..",
    "{caption}",
    "{token}",
    "{",
    "}",
    "%",
    "@",
    "\u2028",
    "é",
    "\ufeff",
    "a" * 5000,
]


def flip_bytes(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def swap_lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


def repeat_line(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return b"".join(lines)


def cut(rng: random.Random, data: bytes) -> bytes:
    first, last = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:first] + data[last:]


def replace_value(rng: random.Random, data: bytes) -> bytes:
    lines = data.decode().splitlines()
    places = [i for i, line in enumerate(lines) if ":" in line and not line.startswith("#")]
    place = rng.choice(places)
    lines[place] = f"{lines[place].partition(':')[0]}: {rng.choice(WORDS)}"
    return "\n".join(lines).encode()


def replace_word(rng: random.Random, data: bytes) -> bytes:
    words = data.decode().split(" ")
    words[rng.randrange(len(words))] = rng.choice(WORDS)
    return " ".join(words).encode()


def indent_line(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    place = rng.randrange(len(lines))
    lines[place] = rng.choice([b" ", b"  ", b"\t", b"- "]) + lines[place]
    return b"".join(lines)


MUTATIONS = (flip_bytes, swap_lines, repeat_line, cut, replace_value, replace_value, replace_word, indent_line)


@pytest.mark.parametrize("kind", LOADS)
def test_a_mutated_file_is_read_or_refused_with_words(kind: str, tmp_path: Path) -> None:
    pattern, load, count = LOADS[kind]
    for folder in ("experiments", "sweeps"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    files = sorted(tmp_path.glob(pattern))
    rng = random.Random(f"{kind} 0")
    refused = 0
    for number in range(count):
        file = rng.choice(files)
        data = file.read_bytes()
        for _ in range(rng.randint(1, 3)):
            # One mutation may have broken what the next would take apart.
            try:
                data = rng.choice(MUTATIONS)(rng, data)
            except (UnicodeDecodeError, IndexError, ValueError):
                break
        mutant = file.with_name(f"mutant_{number}.yaml")
        mutant.write_bytes(data)
        began = time.process_time()
        try:
            assert isinstance(load(mutant), StrictModel)
        except UserError as error:
            refused += 1
            assert str(error) and len(str(error)) < 20_000
        except Exception as error:
            raise AssertionError(f"{kind} {number}, of {file.name}: {type(error).__name__}\n{data!r}") from error
        assert time.process_time() - began < 2
        mutant.unlink()
    assert count * 0.3 < refused < count
