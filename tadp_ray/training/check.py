"""Checks a cell's data, captions and sizes before it is trained."""

import logging
from collections.abc import Sequence

import numpy as np

from tadp_ray.backbones.families import family_of
from tadp_ray.captions.making import stores_of
from tadp_ray.captions.prompts import Prompts, parts
from tadp_ray.captions.store import read_store
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.vocabulary import CAPTION
from tadp_ray.data.files import FileDataset
from tadp_ray.data.images import EIGEN_SIZE
from tadp_ray.data.sample import IGNORE, Dataset, Sample, annotation
from tadp_ray.errors import UserError
from tadp_ray.files import file_digest
from tadp_ray.registry import TASKS, check_type
from tadp_ray.training.setup import TrainSetup, resized
from tadp_ray.wording import first_few, type_named

log = logging.getLogger(__name__)


def check_setup(setup: TrainSetup) -> None:
    """Check all that a training reads.

    Raises:
        UserError: data, captions or sizes do not fit; the message names the values and the remedy.
    """
    check_truth(setup)
    check_scored(setup)
    check_text(setup)
    check_context(setup)
    warn_of_cut_prompts(setup)
    check_other_captions(setup)
    check_token(setup)
    check_store(setup)
    check_augment(setup)
    check_lengths(setup)
    check_unpadded(setup)


def warn_of_cut_prompts(setup: TrainSetup) -> None:
    """Make all prompts, and log how many of them the text encoder does not read to their ends."""
    for images, prompts in (("training", setup.train_prompts), ("scored", setup.val_prompts)):
        if prompts.truncated:
            log.warning(
                "of the prompts of %d %s images, the text encoder reads only the first %d tokens of %d; shorten them, unless "
                "this is meant",
                len(prompts.by_id),
                images,
                prompts.budget,
                prompts.truncated,
            )


def check_truth(setup: TrainSetup) -> None:
    """Check that the data set has the ground truth of the task, and that the task's metrics can be made."""
    truth, sample, kind = setup.task.truth, annotation(setup.train, 0), setup.recipe.data.kind
    check_type(sample, Sample, f"data set {kind!r}: sample 0")
    if sample.id != setup.train.ids[0]:
        raise UserError(
            f"data set {kind!r}: sample 0 has the id {sample.id!r}; expected ids[0], {setup.train.ids[0]!r}"
        )
    for split, opened in (("train", setup.train), ("val", setup.val)):
        # Every file of a data set in files was opened.
        if not isinstance(opened, FileDataset):
            check_first(opened, setup.classes, f"data set {kind!r}: {split}")
    setup.task.metrics(setup.classes)
    if getattr(sample, truth) is None:
        raise UserError(
            f"task: {setup.recipe.task} needs {truth}, which data.kind: {kind} with these files has not "
            f"(sample {setup.train.ids[0]!r}); choose data with {truth}, or another task"
        )


def check_first(opened: Dataset, classes: Sequence[str], place: str) -> None:
    """Check the classes and the first sample of a split of a data set, which may be a plug-in's.

    Raises:
        UserError: it has other classes than those of the recipe's data set; or the image, the label map or the depth map has
            another type or size; or the label map has a label that is no class.
    """
    if tuple(opened.classes) != tuple(classes):
        raise UserError(
            f"{place} has the classes {first_few(opened.classes)}, and the data set {first_few(classes)}; name both alike"
        )
    sample, size = opened[0], tuple(opened.sizes[0])
    for field, dtype, shape in (("image", "uint8", (*size, 3)), ("mask", "uint8", size), ("depth", "float32", size)):
        value = getattr(sample, field)
        if value is None and field != "image":
            continue
        if not isinstance(value, np.ndarray) or value.dtype != dtype or value.shape != shape:
            found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type_named(value)
            raise UserError(
                f"{place}: the {field} of sample 0 is {found}; expected {dtype} {shape}, as sizes[0] says (height, width)"
            )
    # Data for depth may have no classes.
    labels = set() if sample.mask is None or not classes else {*np.unique(sample.mask).tolist()}
    if wrong := sorted(labels - {*range(len(classes)), IGNORE}):
        raise UserError(
            f"{place}: the mask of sample 0 has the label {wrong[0]}; expected 0 to {len(classes) - 1}, or {IGNORE} = ignored"
        )


def check_scored(setup: TrainSetup) -> None:
    """Check that some depth can be scored, and that images which are scored in Eigen's crop have its size."""
    truth, limit, val = setup.task.truth, getattr(setup.recipe.model.head, "max_depth", None), setup.val
    nearest = val.least if truth == "depth" and isinstance(val, FileDataset) else None
    if limit and nearest and nearest >= limit:
        raise UserError(
            f"model.head.max_depth={limit:g}: scored images are {nearest:.4g} m away and more, and what is beyond {limit:g} m is "
            "neither predicted nor scored, so there is nothing to score; raise it, or correct the units of data.val"
        )
    if not setup.recipe.evaluation.eigen_crop:
        return
    if truth != "depth":
        raise UserError(
            f"evaluation.eigen_crop=True: crops depth, but the ground truth of this task is its {truth}; leave it out"
        )
    for index, image_id in enumerate(val.ids):
        if (size := setup.scored_size(index)) != EIGEN_SIZE:
            raise UserError(
                f"evaluation.eigen_crop=True: belongs to images of {EIGEN_SIZE}, but {image_id} is scored at {size} "
                f"(height, width; evaluation.score_at={setup.recipe.evaluation.score_at}); leave it out"
            )


def check_text(setup: TrainSetup) -> None:
    """Check that a backbone without a text encoder has neither captions nor a text adapter."""
    model = setup.recipe.model
    if setup.pretrained.text_encoder is None and (setup.recipe.caption.source != "null" or model.adapter):
        raise UserError(
            f"model.backbone={model.backbone}: reads no text; set caption.source: null, and leave model.adapter out"
        )


def check_context(setup: TrainSetup) -> None:
    """Check that the backbone reads what the context's sources say, and that their image encoders load."""
    model = setup.recipe.model
    if setup.pretrained.text_encoder is None and model.context.kinds != ("text",):
        raise UserError(
            f"model.backbone={model.backbone}: reads no context, but model.context is "
            f"{'+'.join(model.context.kinds)}; leave model.context out"
        )
    _ = setup.encoders


def check_other_captions(setup: TrainSetup) -> None:
    """Check the captions of further evaluations like the recipe's, and that no class has the metric of one."""
    entry = TASKS[setup.recipe.task]
    for name, other in setup.other_captions.items():
        key = f"evaluation.captions.{name}"
        if entry.by_class == entry.main and name in setup.classes:
            raise UserError(f"{key}: {entry.main}/{name} is the metric of the class {name!r}; rename the captions")
        try:
            check_text(other)
            check_one_length(other, other.val_prompts)
            _ = other.val_prompt_tokens
        except UserError as error:
            raise UserError(f"{key}: {error}") from None


def check_token(setup: TrainSetup) -> None:
    """Check that the text encoder reads the learned token in some prompt, in training or evaluation."""
    token = setup.pretrained.learned_token
    made = (setup.train_prompts, setup.val_prompts, *(other.val_prompts for other in setup.other_captions.values()))
    read = (each.read(part) for each in made for prompt in each.by_id.values() for part in parts(prompt))
    if token and not any(token in text for text in read):
        place = family_of(setup.recipe.model).places(setup.recipe.model)["token"]
        raise UserError(
            f"model.embeddings={str(place)!r}: its token is {token!r}, which no prompt says; add it to caption.modifiers, "
            f"before captions that fill the text encoder, e.g. 'a {token} style photo of {CAPTION}'"
        )


def check_store(setup: TrainSetup) -> None:
    """Check that stores have captions of these images, and that one of both splits of a folder has no id of two images."""
    check_captioned(setup)
    store, data = setup.recipe.caption.store, setup.recipe.data
    if store is None or data.kind != "folder":
        return
    if store.resolve() not in {scored.resolve() for scored in stores_of(setup.recipe, "val")}:
        return
    train, val = setup.train, setup.val
    assert isinstance(train, FileDataset) and isinstance(val, FileDataset)
    for image_id in sorted({*train.ids} & {*val.ids}):
        one, other = train.layout.images[image_id], val.layout.images[image_id]
        if one != other:
            raise UserError(
                f"caption.store={str(store)!r}: has one entry {image_id!r} for {one} and {other}; caption the scored images "
                "into a store of their own, and name it as caption.target_store"
            )


def check_captioned(setup: TrainSetup) -> None:
    """Check that captions were made of the images that have their ids, where their store has the images' hashes."""
    for split, dataset in (("train", setup.train), ("val", setup.val)):
        if not isinstance(dataset, FileDataset):
            continue
        for path in stores_of(setup.recipe, split):
            header = read_store(path).header
            # An import may give captions other ids.
            hashes = {} if "imported_from" in header else header.get("images_sha256", {})
            for image_id, file in dataset.layout.images.items():
                if image_id in hashes and file_digest(file) != hashes[image_id]:
                    raise UserError(
                        f"{path}: its caption of {image_id!r} was made of another image than {file}; caption this split's images "
                        "anew, into a store that is of them alone if the other split has the same names (caption.store, "
                        "caption.target_store)"
                    )


def check_augment(setup: TrainSetup) -> None:
    """Check that the augmentation fits the task's ground truth, the backbone's factor and the images."""
    augment, truth = setup.recipe.augment, setup.task.truth
    for key, used, needed, reads in (
        ("crop_max_share", augment.crop_max_share < 1, "mask", "counts the pixels of a class"),
        ("cut_depth", augment.cut_depth > 0, "depth", "shows the depth of an image"),
    ):
        if used and truth != needed:
            raise UserError(
                f"augment.{key}={getattr(augment, key)}: {reads}, but the ground truth of this task is its {truth}; leave it out"
            )
    check_side(setup.recipe, setup.multiple)
    if not augment.crop and not augment.stretch:
        check_whole_views(setup)
    if augment.crop and not augment.pad and not augment.stretch:
        index = int(np.argmin([min(size) for size in setup.train.sizes]))
        smallest = augment.smallest_view(setup.train.sizes[index])
        if smallest < augment.crop:
            raise UserError(
                f"augment.crop={augment.crop}: image {setup.train.ids[index]} {setup.train.sizes[index]} can be as small "
                f"as {smallest} pixels after resize and scale; make the crop smaller, resize larger, or set augment.pad: true"
            )


def check_whole_views(setup: TrainSetup) -> None:
    """Check that views of whole training images are no larger than what they are padded to, or can be halved by the backbone."""
    augment, multiple = setup.recipe.augment, setup.multiple
    low, high = augment.scale
    if low < high and not augment.pad_to and multiple > 1:
        raise UserError(
            f"augment.scale={low:g},{high:g}: gives views of many sizes, but this backbone halves only multiples of {multiple}; "
            "set augment.crop"
        )
    for image_id, size in zip(setup.train.ids, setup.train.sizes, strict=True):
        height, width = (round(side * high) for side in resized(size, augment.resize))
        place = f"image {image_id} {size} is trained on as a view of {(height, width)} (height, width)"
        if augment.pad_to and max(height, width) > augment.pad_to:
            raise UserError(
                f"augment.pad_to={augment.pad_to}: {place}, which padding does not shrink; pad to more, or set augment.crop"
            )
        if not augment.pad_to and (height % multiple or width % multiple):
            raise UserError(
                f"{place}, but this backbone halves only multiples of {multiple}; set augment.crop, or augment.pad_to, to one"
            )


def check_side(recipe: Recipe, multiple: int) -> None:
    """Check that the side of a training view, if a recipe states it, is a multiple of a backbone's."""
    augment, data = recipe.augment, recipe.data
    sides = {f"augment.{key}": getattr(augment, key) for key in ("pad_to", "stretch", "crop")}
    if not augment.resize:
        sides["data.size"] = getattr(data, "size", None)
    key, side = next(((key, side) for key, side in sides.items() if side), ("", 0))
    if side % multiple:
        raise UserError(
            f"{key}={side}: must be a multiple of {multiple}, the factor by which this backbone halves an image; "
            f"try {max(side // multiple, 1) * multiple}"
        )


def check_lengths(setup: TrainSetup) -> None:
    """Check that all contexts have one length, and that evaluation views have a size that the model accepts."""
    check_one_length(setup, setup.train_prompts, setup.val_prompts)
    _ = setup.tokens  # of sources that may not fit each other
    for name, other in setup.other_captions.items():
        length, encoding = other.val_prompt_tokens, other.recipe.caption.encoding
        if length != setup.prompt_tokens and setup.channels_under(length) != setup.channels_under(setup.prompt_tokens):
            raise UserError(
                f"evaluation.captions.{name}.encoding={encoding}: its contexts have {length} tokens, those of the training "
                f"{setup.prompt_tokens}, and features have an attention map for each; leave it out, or set "
                "model.attention_maps: none"
            )
    if unfit := setup.unfit_sizes():
        raise UserError(
            f"{setup.recipe.model.why_one_size}, so what is evaluated must have the size of a training view, {setup.view}, "
            f"not {min(unfit)}; slide windows of that size, or stretch"
        )


def check_one_length(setup: TrainSetup, *prompts: Prompts) -> None:
    """Check that contexts of class embeddings have one length."""
    encoding = setup.recipe.caption.encoding
    if encoding == "class_embeddings":
        counts = sorted({len(names) for each in prompts for names in each.by_id.values()})
        if len(counts) > 1 or not counts[0]:
            raise UserError(
                f"caption.encoding={encoding}: images have {counts[0]} to {counts[-1]} names, but contexts must "
                "be of one length, and hold some; use caption.source: class_names"
            )


def check_unpadded(setup: TrainSetup) -> None:
    """Check that a head which cuts padding off cuts off nothing else."""
    unpadded = getattr(setup.recipe.model.head, "unpadded", None)
    if unpadded is None:
        return
    augment, evaluation = setup.recipe.augment, setup.recipe.evaluation
    # An image is stretched after it is cropped.
    trained = augment.stretch or augment.crop or max(max(resized(size, augment.resize)) for size in setup.train.sizes)
    scored = setup.evaluated_side({*evaluation.scales, *evaluation.multi_scale})
    for view, side in {"training": trained, "evaluation": scored}.items():
        if side > unpadded:
            raise UserError(
                f"model.head.unpadded={unpadded}: views of the {view} have {side} pixels before they are padded, and the "
                "rest would not be decoded; crop them, slide windows (evaluation.mode, crop) of that size, or leave it out"
            )


def check_head(setup: TrainSetup) -> None:
    """Check that the head fits the backbone's levels, without a training.

    Raises:
        UserError: the levels do not fit, see the head.
    """
    model, classes = setup.recipe.model, len(setup.classes)
    setup.cache.checked_head(setup.origin, model, setup.tokens, setup.view, classes)
