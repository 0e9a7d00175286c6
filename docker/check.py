"""Tells which values of the manifests are still to be set: `python docker/check.py docker/kuberay/base` (or docker)."""

import sys
from pathlib import Path

PLACEHOLDER = "CHANGE-ME"


def missing(folder: Path) -> list[str]:
    """What is missing in a folder: each X.env.example asks for a file X.env with a value of one's own for each of its keys."""
    found = []
    for example in sorted(folder.glob("*.env.example")):
        file = example.with_suffix("")
        values = read(file) if file.exists() else {}
        for key in read(example):
            if values.get(key, "") == "" or PLACEHOLDER in values[key]:
                found.append(f"{file}: {key}: a manifest value is missing; {example.name} tells what goes there")
        if (claim := values.get("RUNS_CLAIM")) and claim == values.get("DATA_CLAIM") and PLACEHOLDER not in claim:
            found.append(
                f"{file}: DATA_CLAIM: is RUNS_CLAIM, which Kubernetes before 1.35 cannot mount twice; name another"
            )
    return found


def read(file: Path) -> dict[str, str]:
    """The `KEY=value` lines of a file."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    if not list(folder.glob("*.env.example")):
        sys.exit(f"{folder}: holds no *.env.example, so there is nothing to check; name docker/kuberay/base, or docker")
    gaps = missing(folder)
    print("\n".join(gaps) or "every value is set")
    sys.exit(1 if gaps else 0)
