"""Exports the schema as JSON Schema, with which editors complete and check YAML files."""

import json
from pathlib import Path
from typing import Any

from tadp_ray.config.analysis import Analysis
from tadp_ray.config.experiment import Experiment
from tadp_ray.config.personalization import Personalization
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.search import Search
from tadp_ray.config.sweep import Sweep
from tadp_ray.files import write_text

KINDS = {
    "analysis": Analysis,
    "experiment": Experiment,
    "personalization": Personalization,
    "recipe": Recipe,
    "search": Search,
    "sweep": Sweep,
}


def json_schema(kind: str) -> str:
    """Return the JSON Schema of one kind of file: analysis, experiment, personalization, recipe, search or sweep."""
    schema = KINDS[kind].model_json_schema()
    if kind in ("recipe", "personalization"):
        schema["properties"]["extends"] = {
            "type": "string",
            "description": "base file, whose values this file changes: a path relative to this file, or a shipped name",
        }
        # Required keys may be in the base file.
        schema.pop("required", None)
        for part in schema["$defs"].values():
            part.pop("required", None)
        schema = either(schema)
    return json.dumps(schema, indent=2) + "\n"


def either(schema: Any) -> Any:
    """Return a schema in which a group may fit several of its kinds, as one may whose kind is in the base file."""
    if isinstance(schema, list):
        return [either(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {"anyOf" if key == "oneOf" else key: either(part) for key, part in schema.items()}


def write_schemas(folder: Path) -> list[Path]:
    """Write the schema of every kind of file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{kind}.json" for kind in KINDS]
    for file in files:
        write_text(file, json_schema(file.stem))
    return files
