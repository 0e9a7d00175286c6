"""The exported schemas are those of the code, and check the shipped files as the code does."""

import json
from pathlib import Path

import jsonschema
import pytest

from tadp_ray.config.export import KINDS, json_schema
from tadp_ray.config.load import read_yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "analysis": "experiments/analyses/*.yaml",
    "experiment": "experiments/*.yaml",
    "personalization": "experiments/personalization/*.yaml",
    "recipe": "experiments/recipes/*.yaml",
    "search": "sweeps/search_*.yaml",
    "sweep": "sweeps/*.yaml",
}


@pytest.mark.parametrize("kind", KINDS)
def test_shipped_schema_is_current_and_accepts_shipped_files(kind: str) -> None:
    """`tadp-ray schema` was run after the last change of the vocabulary."""
    shipped = (ROOT / f"experiments/schemas/{kind}.json").read_text()
    assert shipped == json_schema(kind), "run: tadp-ray schema"
    files = [file for file in ROOT.glob(FILES[kind]) if kind == "search" or not file.name.startswith("search_")]
    assert files
    for file in files:
        jsonschema.validate(read_yaml(file), json.loads(shipped))


def test_schema_refuses_a_misspelt_key() -> None:
    """An editor underlines what the loader would refuse."""
    with pytest.raises(jsonschema.ValidationError, match="recal"):
        jsonschema.validate({"caption": {"recal": 1}}, json.loads(json_schema("recipe")))
