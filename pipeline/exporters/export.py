"""The export: examples in each trainer's format, in an order that depends on them alone, cut by size and read back.

    STEP-FINGERPRINT/built/contents.json                      what there is, for the release that is made of it
    STEP-FINGERPRINT/built/tuples/train-00000-of-00003.parquet

The step's own rows are the same examples with everything known of them: ids, languages, scores, lineage.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.exporters.built import Contents
from pipeline.exporters.formats import WITH_IDS, Config, Format, configs, lacking, written
from pipeline.exporters.order import KEY_COLUMNS, columns, in_order, release_key
from pipeline.exporters.repeats import repeats
from pipeline.exporters.survey import agreed, check_formats, survey
from pipeline.exporters.writer import Writer
from pipeline.exporters.writing import writing
from pipeline.rows import Document, Example, Passage, Reject, Row
from pipeline.stages.base import Context, Inputs, TableStage
from pipeline.store import Dataset


class Export(TableStage):
    """Writes examples for trainers; gives those examples, train before dev before test, by batch and id.

    Every tuple has `negatives` negatives, the hardest ones (None: as many as all rows have). A row is rejected as `empty_text`
    where a trainer would have nothing to read, as `too_few_negatives`, as `below_positive` where its label says that the two
    texts differ and no config holds degrees, as `duplicate_id` where a row before it has its id, and where no file holds it: as
    `no_label` where `scored` stands alone, as `not_held_out` where all else is `beir` with a corpus.
    `ids` adds to each config of sentence-transformers another with ids and batches.
    `corpus` are the documents that held-out queries are to be searched in, for `beir`; without it they are the examples' texts.
    """

    version: ClassVar[int] = 3
    kind: Literal["export"] = "export"
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Example,), "corpus": (Document, Passage)}
    may_lack: ClassVar[tuple[str, ...]] = ("corpus",)
    row_type: ClassVar[type[Row]] = Example

    input: Inputs
    corpus: Inputs = ()
    formats: Annotated[tuple[Format, ...], Field(min_length=1)] = ("tuples", "sentence_transformers")
    negatives: NonNegativeInt | None = None
    ids: bool = False
    shard_rows: PositiveInt = 100_000

    @model_validator(mode="after")
    def _formats_fit(self) -> Self:
        for mistake in self._mistakes():
            raise ValueError(mistake)
        return self

    def _mistakes(self) -> Iterator[str]:
        if self.corpus and "beir" not in self.formats:
            yield "corpus: only the format beir reads it; add beir to formats, or leave corpus out"
        if self.ids and not WITH_IDS & {*self.formats}:
            yield "ids: only configs of sentence-transformers have twins with ids; add one to formats, or leave ids out"
        if self.negatives == 0:
            for name in lacking(self.formats, 0):
                yield f"negatives: 0, but {name} wants some; ask for at least one, or leave {name} out of formats"

    @property
    def copies(self) -> int:
        """How many times the export writes its rows, about."""
        return len({*self.formats, *written(self.formats, 2, graded=False)} - {"sentence_transformers"})

    def may_reject(self) -> float:
        return 1.0 if {*self.formats} <= {"scored", "beir"} else self.max_rejected  # neither is of every row

    def table(self, context: Context) -> Iterator[Row | Reject]:
        examples = context.inputs["input"]
        made, contents = self._planned(examples)
        with ExitStack() as stack:
            scratch = stack.enter_context(TemporaryDirectory(prefix=".export-", dir=context.folder))
            with writing(Path(scratch)):
                repeated = repeats(columns(examples, ["pair_id"]), Path(scratch))
            writer = Writer(made, contents, self.shard_rows, Path(scratch), repeated)
            stack.callback(writer.abandon)
            if "beir" in self.formats:
                writer.with_beir(own_corpus=bool(self.corpus))
            tables = stack.enter_context(closing(in_order(examples, release_key, KEY_COLUMNS, context.folder)))
            yield from writer.written(tables)
            writer.place(context.folder, context.inputs.get("corpus"))

    def _planned(self, examples: Dataset) -> tuple[list[Config], Contents]:
        """The configs, and what is known of the whole before anything is written.

        Raises StageError where the rows and the formats do not fit, before anything is written.
        """
        found = survey(examples)
        negatives = agreed(found, self.negatives, self.formats)
        check_formats(found, self.formats, negatives)
        made = configs(self.formats, negatives, graded=found.is_graded, ids=self.ids, batches=found.is_batched)
        return made, Contents(negatives, found.is_batched)
