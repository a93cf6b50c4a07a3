"""The export: examples in each trainer's format, in an order that depends on them alone, cut by size and read back.

    STEP-FINGERPRINT/built/contents.json                      what there is, for the release that is made of it
    STEP-FINGERPRINT/built/tuples/train-00000-of-00003.parquet

The step's own rows are the same examples with everything known of them: ids, languages, scores, lineage.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from pipeline.exporters.built import Contents
from pipeline.exporters.formats import Config, Format, configs, written
from pipeline.exporters.order import KEY_COLUMNS, in_order, release_key
from pipeline.exporters.survey import agreed, check_formats, survey
from pipeline.exporters.writer import Writer
from pipeline.rows import Document, Example, Passage, Reject, Row
from pipeline.stages.base import Context, Inputs, TableStage
from pipeline.store import Dataset


class Export(TableStage):
    """Writes examples for trainers; gives those examples, train before dev before test, by batch and id.

    Every tuple has `negatives` negatives, the hardest ones (None: as many as all rows have). A row is rejected as `empty_text`
    where a trainer would have nothing to read, as `too_few_negatives`, and as `below_positive` where its label says that the two
    texts differ and no config holds degrees. `ids` adds to each config of sentence-transformers another with ids and batches.
    `corpus` are the documents that held-out queries are to be searched in, for `beir`; without it they are the examples' texts.
    """

    version: ClassVar[int] = 2
    kind: Literal["export"] = "export"
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Example,), "corpus": (Document, Passage)}
    may_lack: ClassVar[tuple[str, ...]] = ("corpus",)
    row_type: ClassVar[type[Row]] = Example

    input: Inputs
    corpus: Inputs = ()
    formats: tuple[Format, ...] = ("tuples", "sentence_transformers")
    negatives: NonNegativeInt | None = None
    ids: bool = False
    shard_rows: PositiveInt = 100_000

    @model_validator(mode="after")
    def _corpus_is_read(self) -> Self:
        if self.corpus and "beir" not in self.formats:
            raise ValueError("corpus: only the format beir reads it; add beir to formats, or leave corpus out")
        return self

    @property
    def copies(self) -> int:
        """How many times the export writes its rows, about."""
        return len({*self.formats, *written(self.formats, 2, graded=False)} - {"sentence_transformers"})

    def table(self, context: Context) -> Iterator[Row | Reject]:
        examples = context.inputs["input"]
        made, contents = self._planned(examples)
        with ExitStack() as stack:
            scratch = stack.enter_context(TemporaryDirectory(prefix=".export-", dir=context.folder))
            writer = Writer(made, contents, self.shard_rows, Path(scratch))
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
