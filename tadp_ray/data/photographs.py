"""Which photographs are meant by the name of a published data set, a folder, or a glob: what is captioned."""

import glob
from collections import Counter
from pathlib import Path

from PIL import Image

from tadp_ray.data import PUBLISHED
from tadp_ray.data.check import find
from tadp_ray.data.files import first_few, guide
from tadp_ray.data.sample import Split


def find_photographs(data: str, root: Path | None = None, split: Split | None = None) -> dict[str, Path]:
    """Image file by id, with the ids by which trainings look captions up.

    - with `root`, `data` names a published set; without a split, all its published ones, as a recipe has one store.
    - else a folder or a quoted glob; an id is a file stem, as in a folder data set.

    Raises:
        ValueError: there are none, a file is missing, or two are of one id.
    """
    if root is None and data in PUBLISHED:
        raise ValueError(f"{data}: name the folder that holds it with --root; {guide(data)}")
    if root is not None:
        return _published(data, root, split)
    if split is not None:
        raise ValueError(
            f"--split {split}: only a published data set with --root has splits; {data!r} is a folder or glob"
        )
    known = Image.registered_extensions()
    if Path(data).is_dir():
        files = [file for file in sorted(Path(data).iterdir()) if file.suffix.lower() in known]
    else:
        files = [Path(name) for name in sorted(glob.glob(data, recursive=True)) if Path(name).is_file()]
    if not files:
        raise ValueError(
            f"{data!r}: no image there; name a folder of images, a quoted glob, or a data set of `data list` with --root"
        )
    if twice := [stem for stem, count in Counter(file.stem for file in files).items() if count > 1]:
        raise ValueError(
            f"{data!r}: several files are called {first_few(twice)}; rename them, as the stem is the image's id"
        )
    return {file.stem: file.absolute() for file in files}


def _published(data: str, root: Path, split: Split | None) -> dict[str, Path]:
    known = find(data)
    if split is not None and split not in known.images:
        raise ValueError(f"--split {split}: {data} has {', '.join(known.images)}")
    images: dict[str, Path] = {}
    for each in [split] if split else known.images:
        images |= {name: file.absolute() for name, file in known.layout(root, each).images.items()}
    if missing := [str(file) for file in images.values() if not file.is_file()]:
        raise ValueError(f"{data}: {len(missing)} image(s) are not there: {first_few(missing)}; {guide(data)}")
    return images
