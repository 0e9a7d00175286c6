"""The keys of an experiment, with its table and its figure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from tadp_ray.config.claims import TableClaim
from tadp_ray.config.vocabulary import METRIC, ExpandedPath, MatchRule, Scale, Seeds, StrictModel, distinct


class Published(StrictModel):
    """The published numbers of a table, and their source."""

    source: str = Field(description="paper, table, data set and metric of the published numbers")
    values: tuple[tuple[float | None, ...], ...] = Field(description="one list per row, with one number per column")


class TableConfig(StrictModel):
    """The table of an experiment."""

    title: str
    metrics: Annotated[tuple[str, ...], AfterValidator(distinct)] = Field(
        ("miou",),
        min_length=1,
        description="final metrics of a cell, e.g. miou, rmse or ap50 (last step), best_miou (best evaluation), miou/<style>. "
        "Several metrics form an axis of the table, called metric",
    )
    rows: tuple[str, ...] = Field(min_length=1, description="one or several axes, whose values are the rows")
    columns: tuple[str, ...] = Field(min_length=1, description="one or several axes, whose values are the columns")
    published: Published | None = None

    def sides(self, axes: Mapping[str, tuple[JsonValue, ...]]) -> dict[str, tuple[JsonValue, ...]]:
        """Return the values of every axis of the table: the sweep's axes, and `metric` if there are several or it is named."""
        named = len(self.metrics) > 1 or METRIC in (*self.rows, *self.columns)
        return {**axes, **({METRIC: self.metrics} if named else {})}


class PublishedLine(StrictModel):
    """The published correlation of a figure, and its source."""

    source: str = Field(description="paper, figure and data set of the published number")
    r: float = Field(ge=-1, le=1, description="Pearson's correlation")


class FigureConfig(StrictModel):
    """A scatter plot of per-image results with a least-squares line and its band, with one panel per row of the table."""

    title: str
    kind: Literal["recall", "size"] = Field(
        description="recall: mean IoU over the classes in an image, against the recall of its caption; size: IoU of each class "
        "in each image, against the fraction of the image's pixels that the class covers"
    )
    match: MatchRule | dict[Scale, MatchRule] = Field(
        "recorded",
        description="rule by which words of a caption match classes, or one rule for each scale. similar: cosine similarity of "
        "at least 0.9 to a class name in the text encoder of the recipe's weights (S, Figure S5); exact: exact words; synonyms: "
        "exact words and synonyms; recorded: as in training, by the names from which a caption was made, or by synonyms if there "
        "are none",
    )
    published: PublishedLine | None = None

    def match_at(self, scale: Scale) -> MatchRule:
        """Return the rule at a scale."""
        return self.match if isinstance(self.match, str) else self.match.get(scale, "recorded")

    @model_validator(mode="after")
    def _of_captions(self) -> "FigureConfig":
        if self.kind != "recall" and self.match != "recorded":
            raise ValueError(f"match is a rule on captions, so it needs kind: recall, not {self.kind}")
        return self


class Experiment(StrictModel):
    """One question, with recipes, a sweep, seeds, a table, claims and optionally a figure."""

    question: str
    recipes: dict[Scale, ExpandedPath] = Field(
        min_length=1, description="recipe of each scale: a file, relative to this one, or the name of a shipped recipe"
    )
    sweep: ExpandedPath | dict[Scale, ExpandedPath] = Field(
        description="a file, relative to this one, or the name of a shipped sweep; or one sweep for each scale, with the same "
        "axes and the same number of values per axis"
    )
    seeds: Seeds = (0,)
    needs: dict[ExpandedPath, str] = Field(
        {},
        description="file or folder of a model or a learned token that cells read -> the command that creates it. If it is "
        "missing, the command is printed",
    )
    table: TableConfig
    figure: FigureConfig | None = None
    claims: tuple[TableClaim, ...] = Field(
        (), description="claims to test on the table; a verdict needs at least three seeds"
    )

    def sweep_file(self, scale: Scale) -> Path:
        """Return the sweep file of a scale, relative to the experiment's."""
        return self.sweep if isinstance(self.sweep, Path) else self.sweep[scale]

    @model_validator(mode="after")
    def _scales(self) -> "Experiment":
        if isinstance(self.sweep, dict) and self.sweep.keys() != self.recipes.keys():
            raise ValueError(f"recipes are for {', '.join(self.recipes)}, sweeps for {', '.join(self.sweep)}")
        return self
