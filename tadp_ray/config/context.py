"""Keys of what a backbone is conditioned on: one or several sources of context vectors, and how they are joined."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, GetJsonSchemaHandler, Tag, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tadp_ray.config.vocabulary import StrictModel, told_by
from tadp_ray.registry import CONTEXT_SOURCES

if TYPE_CHECKING:
    SourceConfig = Any
else:
    SourceConfig = Annotated[
        Union[tuple(Annotated[entry.config, Tag(kind)] for kind, entry in CONTEXT_SOURCES.items())],  # noqa: UP007
        Discriminator(told_by("kind")),
    ]

PRESETS: dict[str, dict[str, Any]] = {
    "metaprompts": {"sources": ({"kind": "learned", "count": 150},)},
    "cide": {
        "sources": (
            {
                "kind": "image",
                "encoder": "google/vit-base-patch16-224",
                "output": "logits",
                "map": "cide",
                "lr_mult": 10.0,
            },
        )
    },
    "odise": {
        "sources": (
            {"kind": "text"},
            {"kind": "image", "encoder": "openai/clip-vit-large-patch14-336", "map": "captioner"},
        ),
        "join": "sum",
    },
}
"""Published contexts by their methods' names, with the published code's values; docs/related.md says what differs."""


class ContextConfig(StrictModel):
    """The context that a backbone is conditioned on. Short forms: the name of a source with its defaults (text, learned, image),
    or of a published context: metaprompts (Wan et al., on ADE20K), cide (ECoDepth) or odise (the implicit captioner)."""

    sources: tuple[SourceConfig, ...] = Field(
        description="sources of context vectors: names, or groups with a kind. Each kind may appear only once"
    )
    join: Literal["concatenate", "sum"] = Field(
        "concatenate",
        description="concatenate: the vectors of all sources, one source after another; sum: add the vectors at the same "
        "position. For sum, all sources must have the same number of vectors",
    )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the sources."""
        return tuple(source.kind for source in self.sources)

    @property
    def readers_of_images(self) -> tuple[SourceConfig, ...]:
        """The sources that read images."""
        return tuple(source for source in self.sources if CONTEXT_SOURCES[source.kind].reads == "image")

    @property
    def reads_text(self) -> bool:
        """Whether a source reads the captions."""
        return any(CONTEXT_SOURCES[kind].reads == "text" for kind in self.kinds)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, str):
            if value not in (*CONTEXT_SOURCES, *PRESETS):
                raise ValueError(f"expected {', '.join((*CONTEXT_SOURCES, *PRESETS))}, or a group of sources and join")
            return PRESETS.get(value, {"sources": ({"kind": value},)})
        if isinstance(value, Mapping) and isinstance(value.get("sources"), list | tuple):
            named = tuple({"kind": each} if isinstance(each, str) else each for each in value["sources"])
            return {**value, "sources": named}
        return value

    @model_validator(mode="after")
    def _distinct(self) -> "ContextConfig":
        if not self.sources:
            raise ValueError("sources: there is none; name text, learned, image or several")
        kind, count = Counter(self.kinds).most_common(1)[0]
        if count > 1:
            raise ValueError(f"sources: {kind} is named {count} times; name each kind once")
        if self.join == "sum" and len(self.sources) == 1:
            raise ValueError("join: sum needs at least two sources; leave it out")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        group = handler(core_schema)
        sources = handler.resolve_ref_schema(group)["properties"]["sources"]
        sources["items"] = {"anyOf": [{"enum": list(CONTEXT_SOURCES)}, sources["items"]]}
        return {"anyOf": [{"enum": [*CONTEXT_SOURCES, *PRESETS]}, group], "description": cls.__doc__}


DEFAULT_CONTEXT = ContextConfig.model_validate("text")
