"""Every word a YAML file may use, with its type, its range, its meaning and where the published value comes from.

"S" stands for the supplement of the TADP paper, "code" for the published repository; where the two contradict each
other the option's description says which one the default follows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    Tag,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

Scale = Literal["pocket", "paper"]
TaskName = Literal["segmentation", "depth", "detection"]
MAIN_METRIC: dict[TaskName, str] = {"segmentation": "miou", "depth": "rmse", "detection": "ap50"}
"""The metric that a model is known by; it tells the best evaluation."""
FALLING = ("rmse", "rmse_log", "abs_rel", "sq_rel", "log10", "silog")
"""Metrics of which less is better."""
METRIC = "metric"
"""What a table's side calls the axis of several metrics."""
Maps = Literal["none", "cross", "cross+self"]
Style = Literal["photo", "night", "watercolor", "comic"]


class Vocabulary(BaseModel):
    """A frozen group of keys; an unknown key is an error, a number must be finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ScenesData(Vocabulary):
    """The procedural world of the pocket scale, rendered on the fly."""

    kind: Literal["scenes"] = "scenes"
    train: int = Field(300, ge=1, description="labelled training scenes")
    val: int = Field(400, ge=1, description="scenes that a model is scored on")
    scored: Literal["val", "test"] = Field("val", description="which scenes: val to choose settings, test to report")
    style: Style = Field("photo", description="how every scene looks")
    also: tuple[Style, ...] = Field(
        (), description="styles in which the scored scenes are scored besides, after training: e.g. miou/night"
    )
    size: int = Field(64, ge=32, le=256, multiple_of=32, description="height and width of a scene in pixels")
    seed: int = Field(0, ge=0, description="which world: another seed renders other scenes of the same family")


class FolderSplit(Vocabulary):
    """Where one split of a folder data set lies, relative to its root."""

    images: str = Field(description="glob of the photographs, e.g. train/*.png")
    masks: str = Field(description="glob of the label maps; a mask belongs to the image of the same file stem")
    list: Path | None = Field(
        None, description="text file naming this split's images, one a line; without it every image of the glob is used"
    )


class FolderData(Vocabulary):
    """Any photographs with label maps (8-bit or 16-bit single-channel or palette images)."""

    kind: Literal["folder"]
    root: Path = Field(description="folder that holds the data set; relative paths start at the working folder")
    train: FolderSplit
    val: FolderSplit
    classes: tuple[str, ...] = Field(min_length=2, description="class names in label order; they are the prompt words")
    ignore: tuple[int, ...] = Field((255,), description="label values that belong to no class")
    reduce_zero_label: bool = Field(
        False, description="label 0 is ignored and label k means class k-1 (ADE20K's convention)"
    )
    mask_suffix: str = Field("", description="what a mask's file stem carries behind the image's, e.g. _labelTrainIds")


class TargetData(Vocabulary):
    """A data set of another domain, which a model is scored on and never trained on."""

    kind: Literal["dark_zurich", "nighttime_driving", "watercolor2k", "comic2k"]
    root: Path = Field(description="folder that holds the data set; tadp-ray data check KIND says what goes where")


class PublishedData(Vocabulary):
    """A data set of the paper in its published folder layout, with its published splits."""

    kind: Literal["ade20k", "pascal_segmentation", "pascal_detection", "nyuv2", "cityscapes"]
    root: Path = Field(description="folder that holds the data set; tadp-ray data check KIND says what goes where")
    target: TargetData | None = Field(
        None, description="score on this other domain instead of the set's own validation"
    )


DataConfig = Annotated[ScenesData | FolderData | PublishedData, Field(discriminator="kind")]


class AugmentConfig(Vocabulary):
    """How a training image is varied; resize also holds for evaluation."""

    resize: int | None = Field(None, ge=32, description="shorter side in pixels, ratio kept; none: as it is")
    scale: tuple[float, float] = Field(
        (1.0, 1.0), description="random size factor, drawn uniformly (code: 0.5 to 2 on ADE20K)"
    )
    crop: int | None = Field(None, ge=32, description="side of the random square crop; none: the whole image")
    crop_max_share: float = Field(
        1.0, gt=0, le=1, description="largest share one class may have of a crop, 10 tries (code: 0.75 on ADE20K)"
    )
    pad: bool = Field(False, description="pad images smaller than the crop (image mid-grey, label ignored)")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    colour: Literal["none", "mmseg", "hsv", "nyu"] = Field(
        "none",
        description="mmseg: brightness, contrast, saturation, hue, each with probability 0.5 (code: ADE20K, Cityscapes); "
        "hsv: small shifts of hue, saturation and value (Pascal); nyu: brightness and contrast, gamma, hue (NYUv2)",
    )
    cut_depth: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability that a column band of the image shows its depth instead (code: 0.25, NYUv2)",
    )
    stretch: int | None = Field(
        None,
        ge=32,
        description="height and width that every view is stretched to in the end, ratio lost (code: 512, Pascal)",
    )
    pad_to: int | None = Field(
        None, ge=32, description="height and width that every view is padded to at bottom and right (code: 512, NYUv2)"
    )

    @property
    def side(self) -> int | None:
        """Height and width in pixels of every view in the end; None: as the image has them."""
        return self.pad_to or self.stretch or self.crop

    @model_validator(mode="after")
    def _ordered(self) -> "AugmentConfig":
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(f"scale must be two factors 0 < low <= high, not {low}, {high}")
        return self


class CaptionConfig(Vocabulary):
    """Which words an image is given."""

    source: Literal["oracle", "class_names", "null", "store", "shuffled", "wrong"] = Field(
        "oracle",
        description="oracle: names of the classes that are present; class_names: all names; null: the empty prompt; "
        "store: captions from a file; shuffled: another image's oracle; wrong: as many absent names as are present",
    )
    precision: float = Field(
        1.0, gt=0, le=1, description="share of named classes that are present, over the data set (Table S2)"
    )
    recall: float = Field(
        1.0, ge=0, le=1, description="share of present classes that are named, over the data set (Table S2)"
    )
    min_true: int = Field(1, ge=0, description="true names every image keeps, where it has as many")
    distractors: tuple[str, ...] = Field(
        (),
        description="names beside the absent classes that may be said falsely; for data sets with few classes, most of "
        "which are in every image",
    )
    shuffle: bool = Field(False, description="random word order instead of class order")
    store: Path | None = Field(None, description="caption file: image id -> captions (source: store)")
    encoding: Literal["text", "names", "class_embeddings"] = Field(
        "text",
        description="text: one prompt through CLIP; names: each name through CLIP by itself; class_embeddings: one vector a "
        "name, CLIP's end mark averaged over 80 sentences (VPD)",
    )
    embeddings: Path | None = Field(
        None,
        description="file of one vector a class, .pth as published or .safetensors; none: made with the model's encoder",
    )
    templates: Literal["averaged", "single"] = Field(
        "averaged", description="class embeddings of 80 sentences, or of 'a photo of a ...' alone (Figure S3)"
    )

    @field_validator("source", mode="before")
    @classmethod
    def _null_is_a_word(cls, value: object) -> object:
        """YAML reads an unquoted null as nothing; here it is the paper's name of the empty prompt."""
        return "null" if value is None else value

    @model_validator(mode="after")
    def _consistent(self) -> "CaptionConfig":
        if (self.source == "store") != (self.store is not None):
            raise ValueError("source: store and a store file belong together; give both or neither")
        fitting = {"names": ("class_names",), "class_embeddings": ("class_names", "oracle")}.get(self.encoding)
        if fitting and self.source not in fitting:
            raise ValueError(f"encoding: {self.encoding} needs source: {' or '.join(fitting)}, not {self.source}")
        if self.embeddings is not None and (self.encoding != "class_embeddings" or self.templates != "averaged"):
            raise ValueError("an embeddings file belongs to encoding: class_embeddings, and leaves templates no choice")
        if self.source != "oracle" and (self.precision, self.recall) != (1.0, 1.0):
            raise ValueError(f"precision and recall degrade oracle captions only, but source is {self.source}")
        return self


class SemanticFPNConfig(Vocabulary):
    """Segmentation: mmseg's feature pyramid and Semantic FPN head (published for ADE20K and Cityscapes)."""

    kind: Literal["semantic_fpn"] = "semantic_fpn"
    channels: int = Field(256, ge=8, multiple_of=8, description="width of the pyramid and of the head (code: 256)")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of head channels dropped in training (code: 0.1)")
    classifier_std: float = Field(
        0.01, gt=0, le=1, description="standard deviation of the last layer's first weights (code: 0.01)"
    )
    loss: Literal["cross_entropy", "focal"] = Field("cross_entropy", description="code: cross_entropy")


class SmpFPNConfig(Vocabulary):
    """Segmentation: the feature pyramid of segmentation-models-pytorch (published for Pascal VOC)."""

    kind: Literal["smp_fpn"]
    pyramid: int = Field(256, ge=8, multiple_of=8, description="width of the pyramid (code: 256)")
    channels: int = Field(128, ge=32, multiple_of=32, description="width of the head (code: 128)")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of head channels dropped in training (code: 0.2)")
    loss: Literal["focal", "cross_entropy"] = Field("focal", description="focal (code) or cross_entropy (S)")


class DepthHeadConfig(Vocabulary):
    """Depth: VPD's fusion of the four levels and its up-sampling decoder (published for NYUv2)."""

    kind: Literal["vpd_depth"]
    fused: int = Field(1536, ge=16, multiple_of=16, description="channels of the fused levels (code: 1536)")
    deconvolved: int = Field(32, ge=8, multiple_of=8, description="channels of the three deconvolutions (code: 32)")
    channels: int = Field(192, ge=8, multiple_of=8, description="channels before and after up-sampling (code: 192)")
    max_depth: float = Field(10.0, gt=0, description="metres that the sigmoid's 1 stands for (code: 10)")


class FasterRCNNConfig(Vocabulary):
    """Detection: torchvision's Faster R-CNN on a pyramid of the four levels (published for Pascal VOC)."""

    kind: Literal["faster_rcnn"]
    channels: int = Field(256, ge=8, multiple_of=8, description="width of the pyramid (code: 256)")
    representation: int = Field(1024, ge=16, description="width of the box head (code: 1024)")
    samples: int = Field(512, ge=8, description="proposals per image that the box head is trained on (code: 512)")
    anchors: tuple[int, int, int, int] = Field(
        (32, 64, 128, 256), description="anchor side in image pixels at each level, largest level first"
    )


def kind_of_head(value: object) -> object:
    """The kind a recipe names, or the default one."""
    return value.get("kind", "semantic_fpn") if isinstance(value, dict) else getattr(value, "kind", None)


HeadConfig = Annotated[
    Annotated[SemanticFPNConfig, Tag("semantic_fpn")]
    | Annotated[SmpFPNConfig, Tag("smp_fpn")]
    | Annotated[DepthHeadConfig, Tag("vpd_depth")]
    | Annotated[FasterRCNNConfig, Tag("faster_rcnn")],
    Discriminator(kind_of_head),
]
TASK_OF_HEAD = {
    "semantic_fpn": "segmentation",
    "smp_fpn": "segmentation",
    "vpd_depth": "depth",
    "faster_rcnn": "detection",
}


class LatentConfig(Vocabulary):
    """How an image becomes a latent; `ls` (TADP, VPD(LS)) and `vpd` (VPD, VPD(R)) stand for the published pairs."""

    draw: Literal["sample", "mode"] = Field("sample", description="sample of the VAE's posterior, or its mode")
    scale: Literal["scaled", "raw"] = Field("scaled", description="times the VAE's scaling factor, or not")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, str) and value not in LATENTS:
            raise ValueError(f"expected {', '.join(LATENTS)}, or a group of draw and scale")
        return LATENTS[value] if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"enum": list(LATENTS)}, handler(core_schema)], "description": cls.__doc__}


LATENTS = {"ls": {"draw": "sample", "scale": "scaled"}, "vpd": {"draw": "mode", "scale": "raw"}}


class ModelConfig(Vocabulary):
    """The frozen Stable Diffusion and how its U-Net is read."""

    weights: str = Field(
        "pocket",
        description="pocket (shipped with the package), a diffusers folder, a hub id, or a single-file checkpoint",
    )
    unet_init: Literal["pretrained", "random"] = Field(
        "pretrained", description="random: U-Net and text encoder lose what they learned (a control; the VAE stays)"
    )
    latent: LatentConfig = LatentConfig()
    pixels: Literal["half", "imagenet"] = Field(
        "half",
        description="[-1, 1], or ImageNet's mean and deviation (code: imagenet for detection and across domains)",
    )
    timestep: int = Field(1, ge=0, lt=1000, description="the U-Net's one timestep; no noise is added (code: 1)")
    maps: Maps = Field(
        "cross", description="attention maps that are appended to the features (code: cross; none for depth)"
    )
    adapter: bool = Field(False, description="learn c + gamma * MLP(c) of the context c: the text adapter (TA)")
    detach_maps: bool = Field(True, description="maps carry no gradient, as in the published code")
    normalize: bool = Field(
        False,
        description="batch-normalise the features before the head (code: off; a U-Net's channels differ in scale)",
    )
    head: HeadConfig = SemanticFPNConfig()


class ScheduleConfig(Vocabulary):
    """How long and how fast one model is trained (AdamW, linear warm-up, polynomial decay, per iteration)."""

    iterations: int = Field(ge=1, description="optimizer steps")
    batch_size: int = Field(16, ge=1, description="global: per-worker batch and accumulation are derived from it")
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="images per forward pass, over all workers together; the rest of the batch is accumulated. "
        "Part of the fingerprint, because batch normalisation sees these images at once. None: the whole batch",
    )
    learning_rate: float = Field(gt=0, le=1, description="of the head")
    unet_scale: float = Field(
        0.1, ge=0, le=10, description="U-Net learning rate relative to the head's (code: 0.1; tables S3a-c print 0.01)"
    )
    weight_decay: float = Field(0.005, ge=0, description="AdamW decay; norms and biases of norms are not decayed")
    warmup_iterations: int = Field(0, ge=0)
    warmup_ratio: float = Field(1e-6, ge=0, le=1, description="first learning rate of the warm-up, relative")
    decay: Literal["polynomial", "triangular", "constant"] = Field(
        "polynomial",
        description="to zero; up to the peak in the middle and down again (NYUv2); or not at all (detection)",
    )
    power: float = Field(
        1.0, gt=0, description="exponent of rise and decay (code: 1 on ADE20K, 0.9 on Pascal and NYUv2)"
    )
    lowest: float = Field(0.0, ge=0, description="learning rate below which it never falls (code: 3e-5 on NYUv2)")
    peak: int = Field(0, ge=0, description="step of the triangle's peak (code: 12 of 25 epochs on NYUv2)")
    decayed: Literal["all_but_norms", "matrices", "as_mmcv"] = Field(
        "all_but_norms",
        description="which weights decay: all but norms; all but vectors and biases (NYUv2); or as mmcv's rules on names do on "
        "ADE20K, where norms inside the U-Net's attention blocks do not decay and learn at the head's rate",
    )
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the forward pass (autocast)")

    @model_validator(mode="after")
    def _ordered(self) -> "ScheduleConfig":
        if self.warmup_iterations >= self.iterations:
            raise ValueError(f"warmup_iterations {self.warmup_iterations} must be below iterations {self.iterations}")
        if (self.decay == "triangular") != (self.peak > 0) or self.peak >= self.iterations:
            raise ValueError(
                f"decay: triangular needs a peak between 0 and iterations {self.iterations}, and the others none, not {self.peak}"
            )
        if self.lowest > self.learning_rate:
            raise ValueError(f"lowest {self.lowest} must not be above learning_rate {self.learning_rate}")
        if self.batch_size % self.images_per_pass:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of micro_batch {self.micro_batch}")
        return self

    @property
    def images_per_pass(self) -> int:
        """Images of one forward pass over all workers together."""
        return self.micro_batch or self.batch_size


class EvaluationConfig(Vocabulary):
    """How often and how a model is scored on the validation split."""

    resize: int | None = Field(
        None,
        ge=32,
        description="shorter side in pixels; none: as augment.resize and stretch say (code: 512 on Cityscapes)",
    )
    every: int = Field(1000, ge=1, description="optimizer steps between evaluations; the last step is always scored")
    mode: Literal["whole", "slide"] = Field("whole", description="whole image, or mean logits of sliding windows")
    crop: int = Field(512, ge=32, description="side of a sliding window")
    stride: int = Field(341, ge=1, description="step between sliding windows")
    scales: tuple[float, ...] = Field(
        (1.0,),
        min_length=1,
        description="size factors whose predictions are averaged (code, multi-scale: 1 to 1.5 by 0.125)",
    )
    flip: bool = Field(False, description="average over the mirrored image too (code: multi-scale and NYUv2)")
    score_at: Literal["image", "view"] = Field(
        "image", description="score at the image's own size, or at the size the model sees (code: view on Pascal)"
    )
    eigen_crop: bool = Field(False, description="score depth inside Eigen's border of 480 x 640 images only (code: on)")

    @model_validator(mode="after")
    def _covering(self) -> "EvaluationConfig":
        if self.mode == "slide" and self.stride > self.crop:
            raise ValueError(
                f"stride {self.stride} leaves gaps between windows of {self.crop}; make it {self.crop} or less"
            )
        return self


class ComputeConfig(Vocabulary):
    """What a cell is given to run on. Nothing here changes what a cell means, so it stays out of the fingerprint."""

    workers: int = Field(
        0, ge=0, description="0: train inside the sweep's warm trial process; N: N Ray Train workers per cell"
    )
    cpus: int = Field(1, ge=1, description="CPU cores (and threads) per worker")
    gpus: float = Field(0, ge=0, description="GPUs per worker")
    recompute: bool = Field(
        False, description="recompute activations in the backward pass: less memory, a third more time"
    )
    loaders: int = Field(0, ge=0, description="processes per worker that read and augment images ahead of training")
    checkpoint_every: int = Field(100, ge=1, description="optimizer steps between checkpoints for resuming")
    max_failures: int = Field(2, ge=0, description="times a cell is restarted from its checkpoint after a crash")
    storage: Path = Field(Path("runs"), description="where cells, checkpoints and tables are written (shared by nodes)")

    @property
    def world_size(self) -> int:
        """Processes that train one cell together."""
        return max(1, self.workers)


class Recipe(Vocabulary):
    """How one model is trained: task, data, text, model and schedule."""

    task: TaskName = "segmentation"
    data: DataConfig = ScenesData()
    augment: AugmentConfig = AugmentConfig()
    caption: CaptionConfig = CaptionConfig()
    model: ModelConfig = ModelConfig()
    schedule: ScheduleConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _fitting(self) -> "Recipe":
        kind = self.model.head.kind
        if TASK_OF_HEAD[kind] != self.task:
            fitting = ", ".join(head for head, task in TASK_OF_HEAD.items() if task == self.task)
            raise ValueError(f"task: {self.task} cannot be done by model.head.kind: {kind}; use {fitting}")
        asked = self.evaluation
        if self.task == "detection" and (asked.mode, asked.scales, asked.flip) != ("whole", (1.0,), False):
            raise ValueError("task: detection looks at whole images once; leave evaluation.mode, scales and flip out")
        return self

    @model_validator(mode="after")
    def _divisible(self) -> "Recipe":
        if self.schedule.images_per_pass % self.compute.world_size:
            raise ValueError(
                f"schedule.batch_size (or micro_batch) {self.schedule.images_per_pass} is global and must be a "
                f"multiple of compute.workers {self.compute.workers}"
            )
        sized = self.augment.crop or self.augment.stretch
        if self.data.kind != "scenes" and not sized and self.schedule.batch_size > 1:
            raise ValueError("photographs of several sizes cannot be batched: set augment.crop or augment.stretch")
        return self


class Sweep(Vocabulary):
    """Which trainings exist: the values that each swept recipe key takes."""

    axes: dict[str, tuple[JsonValue, ...]] = Field(
        min_length=1, description="dotted recipe key -> its values, e.g. caption.precision: [0.5, 1.0]"
    )

    @model_validator(mode="after")
    def _distinct(self) -> "Sweep":
        for key, values in self.axes.items():
            if not values:
                raise ValueError(f"axis {key} has no values")
            if any(value in values[:i] for i, value in enumerate(values)):
                raise ValueError(f"axis {key} names a value twice: {list(values)}")
        return self


class Published(Vocabulary):
    """What the paper printed in the same place, and where."""

    source: str = Field(description="paper, table, data set and metric of the printed numbers")
    values: tuple[tuple[float | None, ...], ...] = Field(description="one row per row value, one number per column")


class TableConfig(Vocabulary):
    """How the answer is laid out."""

    title: str
    metrics: tuple[str, ...] = Field(
        ("miou",),
        min_length=1,
        description="final metrics of a cell: miou, rmse, ap50 (last step), best_miou (best evaluation), miou/<style>; several "
        "are an axis of the table, named metric",
    )
    rows: tuple[str, ...] = Field(min_length=1, description="the axis whose values are the rows, or several axes")
    columns: tuple[str, ...] = Field(min_length=1, description="the axis whose values are the columns, or several axes")
    published: Published | None = None

    def sides(self, axes: Mapping[str, tuple[JsonValue, ...]]) -> dict[str, tuple[JsonValue, ...]]:
        """The values of everything that must stand along the table's sides, by name: a sweep's axes, several metrics."""
        return {**axes, **({METRIC: self.metrics} if len(self.metrics) > 1 else {})}


class Experiment(Vocabulary):
    """One question of the paper: which recipe, which sweep, which seeds, which table."""

    question: str
    recipes: dict[Scale, Path] = Field(min_length=1, description="recipe file of each scale, relative to this file")
    sweep: Path = Field(description="sweep file, relative to this file")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0,), min_length=1)
    table: TableConfig
