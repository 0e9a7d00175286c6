"""Describes published data sets and checks their files and those of recipes, for `tadp-ray data`."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import Progress

from tadp_ray.config.data import DataConfig
from tadp_ray.config.errors import nearest
from tadp_ray.data.config import FolderData
from tadp_ray.data.datasets import FileSource, open_dataset, published_datasets, remarks, source_of
from tadp_ray.data.files import Layout, PublishedSet, SampleFacts, look_at_all
from tadp_ray.data.folder import shared_images
from tadp_ray.data.index import Index
from tadp_ray.data.sample import Split
from tadp_ray.errors import UserError, said_as
from tadp_ray.wording import first_few, pluralized


def find(kind: str) -> PublishedSet:
    """Return a data set by its name.

    Raises:
        UserError: there is no such data set; suggests a similar name.
    """
    if kind not in published_datasets():
        raise UserError(f"{kind!r} is not a published data set; {nearest(kind, list(published_datasets()))}")
    return published_datasets()[kind]


def facts(kind: str) -> dict[str, Any]:
    """Return a data set's description, source and layout."""
    dataset = find(kind)
    return {
        "name": kind,
        "title": dataset.title,
        "task": dataset.task,
        "images": dict(dataset.images),
        "classes": list(dataset.classes),
        "home": list(dataset.home),
        "terms": dataset.terms,
        "layout": dataset.tree.splitlines(),
    }


def described(kind: str) -> Iterator[str]:
    """Yield `facts` as lines."""
    dataset = find(kind)
    counts = ", ".join(f"{count:,} {split}" for split, count in dataset.images.items())
    yield f"{kind}: {dataset.title}"
    yield f"  {dataset.task}, {pluralized(len(dataset.classes), 'classes')}, images: {counts}"
    yield f"  from {' and '.join(dataset.home)}"
    yield f"  terms: {dataset.terms}"
    yield "  below its root:"
    yield from (f"    {line}" for line in dataset.tree.splitlines())


def check(kind: str, root: Path, storage: Path | None = None, *, deep: bool = False) -> dict[str, Any]:
    """Check every file of a data set; show a progress bar in a terminal.

    Args:
        kind: name of the data set.
        root: folder that holds it.
        storage: the storage folder, whose index of the files is used and updated: files that have not changed since are not
            opened. None: every file is opened.
        deep: open every file all the same, and tell which differ from the index though their sizes and times do not.

    Returns: see `checked`.

    Raises:
        UserError: there is no data set of that name.
    """
    dataset = find(kind)
    found = {split: partial(dataset.layout, root, split) for split in dataset.images}
    return checked(kind, root, found, dataset.images, storage, deep=deep)


def check_own(name: str, data: DataConfig, storage: Path | None = None, *, deep: bool = False) -> dict[str, Any]:
    """Check every file of a recipe's data, which is named `name`; otherwise like `check`, with "remarks" that are no problems.

    Raises:
        UserError: these data are not in files.
    """
    source = source_of(data)
    if not isinstance(source, FileSource):
        raise UserError(f"{name}: data.kind: {data.kind} has no files to check; name a recipe of photographs")
    splits: tuple[Split, ...] = ("train", "val")
    found = {split: cache(partial(source.layout, data, split)) for split in splits}
    report = checked(name, getattr(data, "root", None), found, {}, storage, deep=deep)
    if not report["problems"]:
        report["remarks"] = remarks(data, *(open_dataset(data, split, storage) for split in splits))
    elif isinstance(data, FolderData) and report["splits"].keys() == set(splits):
        report["remarks"] = shared_images(data, *(found[split]().images for split in splits))
    return report


def checked(
    kind: str,
    root: Path | None,
    layouts: Mapping[Split, Callable[[], Layout]],
    images: Mapping[Split, int],
    storage: Path | None,
    *,
    deep: bool,
) -> dict[str, Any]:
    """Check every file of some splits; see `check` for the other arguments.

    Args:
        kind: what the data are called.
        root: folder that holds them; None: the data have no such key.
        layouts: finds the files of each split.
        images: number of images of each split that has been published.
        storage: with the index.
        deep: open every file.

    Returns: for each split the number of images, their sizes, the range of their ground truth and the number of images per
    class, and all problems under "problems", one line per file.
    """
    splits, problems = {}, []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        for split, find_files in layouts.items():
            try:
                with said_as({"--set data.root=": "--root "}):
                    layout = find_files()
            except UserError as error:
                problems.append(f"{split}: {error}")
                continue
            published = images.get(split)
            if published is not None and len(layout.images) != published:
                problems.append(
                    f"{split}: {pluralized(len(layout.images), 'images')}, the published split has {published:,}"
                )
            index = Index(storage, layout, deep=deep) if storage else None
            opened = look_at_all(layout, index)
            found = dict(bar.track(opened, total=len(layout.images), description=f"{kind} {split}"))
            valid = {name: each for name, each in found.items() if isinstance(each, SampleFacts)}
            # What all samples together lack cannot be told while some of them are left out.
            wrong = [each for each in found.values() if isinstance(each, str)] or layout.judge(valid)
            problems += [f"{split}: {each}" for each in wrong]
            if index and index.unnoticed:
                problems.append(
                    f"{split}: {pluralized(len(index.unnoticed), 'samples')} changed, though sizes and times of their files did "
                    f"not: {first_few(sorted(index.unnoticed))}; cells that were planned since name the earlier contents: train "
                    "them again"
                )
            splits[split] = {"images": len(layout.images), "published": published, "valid": len(valid)}
            if valid:
                splits[split] |= summary(layout.classes, list(valid.values()))
    return {"name": kind, "root": root and str(root), "splits": splits, "problems": problems}


def summary(classes: Sequence[str], found: Sequence[SampleFacts]) -> dict[str, Any]:
    """Return the sizes, ranges and classes of the valid samples of a split."""
    what, unit, without = found[0].words
    limits = [each.range for each in found if each.range]
    counted, left_out = sum(each.counted for each in found), sum(each.left_out for each in found)
    shown = Counter(index for each in found for index in each.present)
    return {
        "height": spread(each.size[0] for each in found),
        "width": spread(each.size[1] for each in found),
        "values": {
            "of": what,
            "min": min((low for low, _ in limits), default=None),
            "max": max((high for _, high in limits), default=None),
        },
        "counted": {"of": unit, "total": counted, "left_out": left_out / max(counted, 1), "because": without},
        "classes": {name: shown[index] for index, name in enumerate(classes)},
    }


def spread(values: Iterable[int]) -> dict[str, float]:
    """Return the minimum, median and maximum."""
    values = list(values)
    return {"min": min(values), "median": median(values), "max": max(values)}


def report_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield a report of `check` as lines."""
    for split, found in report["splits"].items():
        published = "" if found["published"] is None else f" of {found['published']:,} published"
        yield f"{split}: {pluralized(found['images'], 'images')}{published}, {found['valid']:,} valid"
        if not found["valid"]:
            continue
        for side in ("height", "width"):
            yield "  {side} {min} to {max}, median {median:g}".format(side=side, **found[side])
        if found["values"]["min"] is not None:
            yield "  {of} {min} to {max}".format(**found["values"])
        counted = found["counted"]
        yield "  {}, {left_out:.1%} of them {because}".format(pluralized(counted["total"], counted["of"]), **counted)
        shown = Counter(found["classes"])
        often = [f"{name} ({count:,})" for name, count in shown.most_common() if count]
        never = [name for name, count in shown.items() if not count]
        if shown:
            yield f"  {len(often)} of {len(shown)} classes, in images: {first_few(often)}"
        if never:
            yield f"  in no image: {first_few(never, 10)}"
    yield from (f"warning: {remark}" for remark in report.get("remarks", ()))
    yield pluralized(len(report["problems"]), "problems") if report["problems"] else "no problems"
    yield from (f"  {problem}" for problem in report["problems"])
