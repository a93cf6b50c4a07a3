"""The formats that an export may ask for, and the configs that they are: what `datasets` loads by one name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

import pyarrow as pa

from pipeline.exporters import shapes

Format = Literal[
    "tuples",
    "sentence_transformers",
    "pair",
    "triplet",
    "triplet_n",
    "scored",
    "ms_swift",
    "ms_swift_reranker",
    "flag_embedding",
    "tevatron",
    "nemo",
    "beir",
]
FORMATS: tuple[Format, ...] = get_args(Format)

Shape: TypeAlias = Callable[[pa.Table], pa.Table]

WANT_NEGATIVES: frozenset[Format] = frozenset(
    {"triplet", "triplet_n", "ms_swift_reranker", "flag_embedding", "tevatron", "nemo"}
)
"""Those whose trainer fails, or learns nothing, where a row has no negative."""


@dataclass(frozen=True)
class Config:
    """Files of one shape. One that is `graded` holds the pairs that have a label, of whatever degree; the others hold positives."""

    name: str
    format: str
    trainer: str
    suffix: Literal["parquet", "jsonl"]
    shape: Shape
    graded: bool = False
    nullable: frozenset[str] = frozenset()


_SENTENCE_TRANSFORMERS: tuple[Format, ...] = ("pair", "triplet", "triplet_n", "scored")
WITH_IDS: frozenset[Format] = frozenset({"sentence_transformers", *_SENTENCE_TRANSFORMERS})
"""Those whose configs can have a twin with ids."""
_BUILDERS: Mapping[str, tuple[str, Callable[[pa.Table, int], pa.Table]]] = MappingProxyType(
    {
        "tuples": ("any", shapes.tuples),
        "pair": ("sentence-transformers", shapes.pair),
        "triplet": ("sentence-transformers", shapes.triplet),
        "triplet_n": ("sentence-transformers", shapes.triplet_n),
        "scored": ("sentence-transformers", shapes.scored),
        "ms_swift": ("ms-swift", shapes.ms_swift),
        "ms_swift_reranker": ("ms-swift", shapes.ms_swift_reranker),
        "flag_embedding": ("FlagEmbedding", shapes.flag_embedding),
        "tevatron": ("Tevatron", shapes.tevatron),
        "nemo": ("NeMo AutoModel", shapes.nemo),
    }
)
_UNMEASURED = frozenset({"label", "request_id", "batch"})


def written(formats: Sequence[Format], negatives: int, *, graded: bool) -> list[str]:
    """The shapes that are written: of `sentence_transformers` those that the rows allow."""
    needed = {"pair": 0, "triplet": 1, "triplet_n": 2}
    allowed = {name for name, least in needed.items() if negatives >= least} | ({"scored"} if graded else set())
    named = [
        name
        for given in formats
        for name in (_SENTENCE_TRANSFORMERS if given == "sentence_transformers" else (given,))
        if given != "sentence_transformers" or name in allowed
    ]
    return list(dict.fromkeys(name for name in named if name != "beir"))


def configs(
    formats: Sequence[Format], negatives: int, *, graded: bool, ids: bool = False, batches: bool = False
) -> list[Config]:
    """The configs of these formats, where every row has so many negatives."""
    made: list[Config] = []
    for name in written(formats, negatives, graded=graded):
        config = _config(name, negatives)
        made += [config, _with_ids(config, batches=batches)] if ids and name in _SENTENCE_TRANSFORMERS else [config]
    return made


def _config(name: str, negatives: int) -> Config:
    trainer, build = _BUILDERS[name]
    in_lines = name not in {"tuples", *_SENTENCE_TRANSFORMERS}
    return Config(
        name=f"triplet-{negatives}" if name == "triplet_n" else name,
        format="sentence_transformers" if name in _SENTENCE_TRANSFORMERS else name,
        trainer=trainer,
        suffix="jsonl" if in_lines else "parquet",
        shape=lambda examples: build(examples, negatives),
        graded=name == "scored",
        nullable=_UNMEASURED if name == "tuples" else frozenset(),
    )


def _with_ids(config: Config, *, batches: bool) -> Config:
    return replace(
        config,
        name=f"{config.name}-ids",
        shape=lambda examples: shapes.with_ids(examples, config.shape(examples), batches=batches),
        nullable=frozenset({"batch"}),
    )


def lacking(formats: Sequence[Format], negatives: int) -> Iterator[Format]:
    """The formats that want negatives where there are none."""
    return iter(()) if negatives else (name for name in formats if name in WANT_NEGATIVES)
