"""The keys of a recipe, with types, ranges, meanings and the source of published values.

Its groups on data, model and compute are in the modules `data`, `model` and `compute`.

"S" is the supplement of the TADP paper, "code" the published repository. Where they contradict each other, the description
of the key says which one the default follows.
"""

import re
from collections.abc import Container
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from tadp_ray.config.compute import ComputeConfig
from tadp_ray.config.data import DEFAULT_DATA, POCKET_DATA, AugmentConfig, CaptionConfig, DataConfig
from tadp_ray.config.model import DEFAULT_MODEL, AnyModel
from tadp_ray.config.vocabulary import Scale, StrictModel
from tadp_ray.registry import ENCODINGS, HEADS, TASKS, one_of


class ScheduleConfig(StrictModel):
    """Length, batch size and learning rate of a training run (AdamW, linear warm-up, one learning rate per step)."""

    iterations: int = Field(ge=1, description="optimizer steps")
    batch_size: int = Field(
        16,
        ge=1,
        description="images per step, over all workers; the batch per worker and the accumulation follow from it",
    )
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="images per forward pass, over all workers; gradients are accumulated over the batch. Part of the "
        "fingerprint, because batch normalization is computed over these images. null: the whole batch",
    )
    learning_rate: float = Field(gt=0, le=1, description="learning rate of the head")
    backbone_lr_mult: float = Field(
        0.1,
        ge=0,
        le=10,
        description="learning rate of the U-Net or transformer, relative to the head's (code: 0.1; Tables S3 (a) to (c): 0.01)",
    )
    weight_decay: float = Field(
        0.005, ge=0, description="weight decay of AdamW; weight_decay_rule selects the parameters"
    )
    warmup_iterations: int = Field(0, ge=0, description="optimizer steps of the linear warm-up")
    warmup_ratio: float = Field(
        1e-6, ge=0, le=1, description="initial learning rate of the warm-up, relative to the rate without warm-up"
    )
    lr_schedule: Literal["polynomial", "triangular", "constant"] = Field(
        "polynomial",
        description="polynomial: decay to zero, or to min_lr; triangular: rise until peak_step, then decay (code: NYUv2); "
        "constant: no decay (used for detection)",
    )
    power: float = Field(
        1.0, gt=0, description="exponent of the rise and the decay (code: 1 on ADE20K, 0.9 on Pascal and NYUv2)"
    )
    min_lr: float = Field(0.0, ge=0, description="minimum learning rate (code: 3e-5 on NYUv2)")
    peak_step: int = Field(
        0, ge=0, description="step at which the triangular schedule peaks (code: after 12 of 25 epochs on NYUv2)"
    )
    weight_decay_rule: Literal["all_but_norms", "matrices", "as_mmcv"] = Field(
        "all_but_norms",
        description="parameters with weight decay. all_but_norms: all except norms; matrices: all except vectors and biases "
        "(code: NYUv2); as_mmcv: as with mmcv's name rules on ADE20K and Cityscapes, where the norms in the attention blocks of "
        "the U-Net have no weight decay and the learning rate of the head",
    )
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32",
        description="precision of matrix products and convolutions, in training and evaluation. float32: no TF32 on GPUs; tf32: "
        "TF32 on GPUs, float32 elsewhere (code: the default of torch 1.11); bfloat16: autocast, where weights stay in float32",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "ScheduleConfig":
        if self.warmup_iterations >= self.iterations:
            raise ValueError(f"warmup_iterations {self.warmup_iterations} must be below iterations {self.iterations}")
        if (self.lr_schedule == "triangular") != (self.peak_step > 0) or self.peak_step >= self.iterations:
            raise ValueError(
                f"lr_schedule: triangular needs a peak_step between 0 and iterations {self.iterations}, and the others none, "
                f"not {self.peak_step}"
            )
        if self.lr_schedule == "triangular" and self.warmup_iterations:
            raise ValueError(
                f"warmup_iterations {self.warmup_iterations}: lr_schedule: triangular rises to peak_step by itself; leave it out"
            )
        if self.min_lr > self.learning_rate:
            raise ValueError(f"min_lr {self.min_lr} must not be above learning_rate {self.learning_rate}")
        if self.batch_size % self.images_per_pass:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of micro_batch {self.micro_batch}")
        return self

    @property
    def images_per_pass(self) -> int:
        """Images per forward pass over all workers."""
        return self.micro_batch or self.batch_size


Factor = Annotated[float, Field(gt=0)]
IN_A_METRIC = re.compile(r"(?=.{1,60}$)[\w-]+([ .][\w-]+)*")
"""Names that may follow a metric's: `miou/averaged EOS`."""
MULTI_SCALE = "multi_scale"
"""The further evaluation at several sizes, as in miou/multi_scale."""


class EvaluationConfig(StrictModel):
    """When and how a model is evaluated on the validation split."""

    resize: int | None = Field(
        None,
        ge=32,
        description="shorter side in pixels after resizing; null: as with augment.resize and augment.stretch (code: 512 on "
        "Cityscapes)",
    )
    interval: int = Field(
        1000, ge=1, description="optimizer steps between evaluations; the last step is always evaluated"
    )
    mode: Literal["whole", "slide"] = Field(
        "whole", description="whole: predict whole images; slide: average the logits of sliding windows"
    )
    crop: int = Field(512, ge=32, description="side of a sliding window in pixels")
    stride: int = Field(341, ge=1, description="pixels between sliding windows")
    scales: tuple[Factor, ...] = Field(
        (1.0,),
        min_length=1,
        description="size factors at which each image is predicted; the predictions are averaged (code for multi-scale: 1 to 1.5 "
        "in steps of 0.125)",
    )
    flip: bool = Field(False, description="also average over the flipped image (code: for multi-scale and NYUv2)")
    multi_scale: tuple[Factor, ...] = Field(
        (),
        description="size factors of an additional evaluation after training, which averages over these sizes and flipped images "
        "and adds a metric such as miou/multi_scale (code: 1, 1.125, 1.25, 1.375, 1.5)",
    )
    captions: dict[str, CaptionConfig] = Field(
        {},
        description="other captions of the evaluation images, by name. The trained model is also scored with them. For example, "
        "none: {source: 'null'} adds the metric miou/none. Each entry is a complete group, like the caption of the recipe",
    )
    score_at: Literal["image", "view"] = Field(
        "image",
        description="image: score at the size of the image; view: at the size of the model input (code: view on Pascal)",
    )
    eigen_crop: bool = Field(False, description="score depth only in Eigen's crop of 480 x 640 images (code: true)")

    def oracles(self, stores: Container[str]) -> tuple[str, ...]:
        """Return the names of captions that are made from ground-truth names; `stores` are those whose store says so."""
        return tuple(name for name, each in self.captions.items() if each.uses_ground_truth or name in stores)

    @model_validator(mode="after")
    def _covering(self) -> "EvaluationConfig":
        if self.mode == "slide" and self.stride > self.crop:
            raise ValueError(
                f"stride {self.stride} leaves gaps between windows of {self.crop}; make it {self.crop} or less"
            )
        return self

    @model_validator(mode="after")
    def _scored_only(self) -> "EvaluationConfig":
        for name, caption in self.captions.items():
            if name == MULTI_SCALE or not IN_A_METRIC.fullmatch(name):
                raise ValueError(
                    f"captions: {name!r} becomes part of a metric's name; use up to 60 letters, digits, _ and -, with single "
                    f"spaces or dots between them, and not {MULTI_SCALE}"
                )
            if caption.target_store is not None:
                raise ValueError(
                    f"captions: {name}: target_store={str(caption.target_store)!r}: all its images are evaluation images; name "
                    "the file as store"
                )
            if caption.modifiers_apply != "train+eval":
                raise ValueError(
                    f"captions: {name}: modifiers_apply={caption.modifiers_apply}: all its images are evaluation images; leave "
                    "it out"
                )
        return self


if TYPE_CHECKING:
    TaskName = str
else:
    TaskName = one_of(TASKS)


class Recipe(StrictModel):
    """The settings of one training run: task, data, captions, model, schedule, evaluation and compute."""

    task: TaskName = "segmentation"
    data: DataConfig = DEFAULT_DATA
    augment: AugmentConfig = AugmentConfig()
    caption: CaptionConfig
    model: AnyModel = DEFAULT_MODEL
    schedule: ScheduleConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    compute: ComputeConfig = ComputeConfig()

    @property
    def scale(self) -> Scale:
        """`pocket` if the pocket world or the pocket Stable Diffusion is used, else `paper`."""
        return (
            "pocket" if self.data.kind == POCKET_DATA or getattr(self.model, "weights", None) == "pocket" else "paper"
        )

    @model_validator(mode="after")
    def _fitting(self) -> "Recipe":
        kind = self.model.head.kind
        if HEADS[kind].task != self.task:
            fitting = ", ".join(name for name, head in HEADS.items() if head.task == self.task)
            raise ValueError(f"task: {self.task} cannot be done by model.head.kind: {kind}; use {fitting}")
        chosen = self.evaluation
        views = (chosen.mode, chosen.scales, chosen.flip, chosen.multi_scale)
        if TASKS[self.task].whole_images_only and views != ("whole", (1.0,), False, ()):
            raise ValueError(
                f"task: {self.task} looks at whole images once; leave evaluation.mode, scales, flip and multi_scale out"
            )
        return self

    @model_validator(mode="after")
    def _encodable(self) -> "Recipe":
        if reason := self.model.why_texts_alone:
            for key, caption in self.captions.items():
                if caption.encoding == "class_embeddings":
                    raise ValueError(f"{key}.encoding: class_embeddings: {reason}; use text or names")
            if self.model.context.kinds != ("text",):
                raise ValueError(
                    f"model.context: {'+'.join(self.model.context.kinds)}: {reason}; leave model.context out"
                )
        return self

    @model_validator(mode="after")
    def _weights_stated(self) -> "Recipe":
        if self.data.kind == POCKET_DATA:
            return self
        if {"weights"} & type(self.model).model_fields.keys() - self.model.model_fields_set:
            raise ValueError(
                f"data.kind: {self.data.kind} needs model.weights to be stated: a Stable Diffusion, or pocket if that is meant"
            )
        for source in self.model.context.sources:
            if {"encoder"} & type(source).model_fields.keys() - source.model_fields_set:
                raise ValueError(
                    f"data.kind: {self.data.kind} needs the encoder of model.context's source {source.kind} to be stated: a "
                    "folder or hub id of an image encoder, or pocket if that is meant"
                )
        return self

    @model_validator(mode="after")
    def _told_what_is_read(self) -> "Recipe":
        context = self.model.context
        if context.reads_text:
            return self
        named = "+".join(context.kinds)
        if self.model.adapter:
            raise ValueError(f"model.context: {named} reads no text, which model.adapter adapts; leave the adapter out")
        if self.caption != CaptionConfig(source="null"):
            raise ValueError(
                f"model.context: {named} reads no captions, but caption.source is {self.caption.source}; set caption: "
                '{source: "null"} and nothing else there, or add text to model.context.sources'
            )
        if names := [*self.evaluation.captions]:
            raise ValueError(
                f"model.context: {named} reads no captions, but evaluation.captions has {', '.join(names)}; leave them out, or "
                "add text to model.context.sources"
            )
        return self

    @property
    def captions(self) -> dict[str, CaptionConfig]:
        """All groups of captions by their dotted keys: the recipe's, and those of further evaluations."""
        return {
            "caption": self.caption,
            **{f"evaluation.captions.{name}": caption for name, caption in self.evaluation.captions.items()},
        }

    @model_validator(mode="after")
    def _places_known(self) -> "Recipe":
        for key, caption in self.captions.items():
            if caption.wording not in ("names", "short") and self.data.kind != POCKET_DATA:
                raise ValueError(
                    f"{key}.wording: {caption.wording} tells more than names, which data.kind: {self.data.kind} does not know; "
                    "use short, or captions of a real captioner (source: store)"
                )
        return self

    @model_validator(mode="after")
    def _classes_known(self) -> "Recipe":
        if getattr(self.data, "classes", None) != ():
            return self
        for key, caption in self.captions.items():
            of_names = ENCODINGS[caption.encoding].of_names
            if caption.uses_ground_truth or caption.source == "class_names" or of_names:
                raise ValueError(
                    f"{key}: source: {caption.source}, encoding: {caption.encoding}: needs names of classes, which data.kind: "
                    f'{self.data.kind} with depth has not; use source: store, sentence or "null" and encoding: text'
                )
        return self

    @model_validator(mode="after")
    def _evaluations_named_apart(self) -> "Recipe":
        if twice := sorted({*getattr(self.data, "extra_styles", ())} & self.evaluation.captions.keys()):
            raise ValueError(
                f"evaluation.captions: {twice[0]!r} is one of data.extra_styles, too, and both would be "
                f"{TASKS[self.task].main}/{twice[0]}; rename the captions"
            )
        return self

    @model_validator(mode="after")
    def _divisible(self) -> "Recipe":
        if self.schedule.images_per_pass % self.compute.world_size:
            raise ValueError(
                f"schedule.batch_size (or micro_batch) {self.schedule.images_per_pass} is global and must be a "
                f"multiple of compute.num_train_workers {self.compute.num_train_workers}"
            )
        # A data set whose images have one size has a key for it.
        sized = self.augment.crop or self.augment.stretch or getattr(self.data, "size", None)
        if not sized and self.schedule.batch_size > 1:
            raise ValueError(
                "photographs may differ in size, and such views cannot be batched: set augment.crop or augment.stretch"
            )
        return self
