"""One pass over examples in order: what a trainer can use goes to every file that holds it, and the rest is rejected."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.exporters.beir import HELD_OUT, Beir
from pipeline.exporters.built import Contents, columns
from pipeline.exporters.formats import Config
from pipeline.exporters.readback import check_lines, check_parquet, check_text
from pipeline.exporters.repeats import Repeats
from pipeline.exporters.shards import Build, Shard
from pipeline.exporters.sift import Held, Sifted, sift
from pipeline.exporters.writing import writing
from pipeline.rows import SPLITS, Example, Reject, Row, Split, from_table
from pipeline.stages.base import StageError
from pipeline.store import Dataset, write_bytes


class Writer:
    """Writes examples to the files of an export. `scratch` holds them until they are whole."""

    def __init__(
        self, configs: Sequence[Config], contents: Contents, shard_rows: int, scratch: Path, repeats: Repeats
    ) -> None:
        self._configs, self._negatives, self._scratch = configs, contents.negatives, scratch
        self._repeats = repeats
        self._build = Build(configs, shard_rows, scratch)
        self._contents = contents
        self._beir: Beir | None = None

    def with_beir(self, *, own_corpus: bool) -> None:
        """Write a test collection too."""
        self._beir = Beir(self._scratch, own_corpus=own_corpus)

    def written(self, tables: Iterable[pa.Table]) -> Iterator[Row | Reject]:
        """Write the examples, and give those that went to some file and the rejects."""
        held = self._held()
        for examples in tables:
            sifted = sift(examples, self._negatives, held, self._repeats)
            _refuse_gaps(examples, sifted, held)
            yield from sifted.rejects
            with writing(self._scratch):
                self._write(sifted)
            yield from from_table(Example, sifted.kept)

    def _held(self) -> Held:
        has_tuples = any(not config.graded for config in self._configs)
        has_texts = self._beir is not None and not self._beir.own_corpus
        of_beir = HELD_OUT if self._beir else ()
        splits = SPLITS if has_tuples or has_texts else of_beir
        return Held(frozenset(splits), degrees=any(config.graded for config in self._configs))

    def _write(self, sifted: Sifted) -> None:
        self._build.add(sifted)
        if self._beir:
            self._beir.add(sifted.tuples())
        self._contents.count(sifted.kept)

    def place(self, folder: Path, corpus: Dataset | None) -> None:
        """Give the files their names in `folder`, read them back, and tell what there is in `contents.json`."""
        with writing(folder):
            placed = self._build.placed(folder)
        for config in self._configs:
            self._contents.add(config, placed[config.name], folder)
            _check(config, placed[config.name])
        if self._beir:
            self._place_beir(self._beir, folder, corpus)
        write_bytes(folder / "contents.json", self._contents.as_json().encode())

    def _place_beir(self, beir: Beir, folder: Path, corpus: Dataset | None) -> None:
        with writing(folder):
            if corpus:
                beir.add_corpus(corpus)
            beir.write(folder)
        for name, rows in beir.counts.items():
            check_text(folder / name, rows)
        self._contents.add_files("beir", "BEIR", beir.counts)

    def abandon(self) -> None:
        """Close what is open, whatever becomes of it."""
        self._build.abandon()
        if self._beir:
            self._beir.abandon()


def _refuse_gaps(examples: pa.Table, sifted: Sifted, held: Held) -> None:
    """Raises StageError where a row of a planned batch is no tuple: a trainer's slices would be other batches from there on."""
    is_planned = pc.and_(examples["batch"].is_valid(), pc.is_in(examples["split"], pa.array(held.splits, pa.string())))
    lost = examples.filter(pc.and_(is_planned, pa.array(~sifted.went)))
    if len(lost):
        name = lost["pair_id"][0].as_py()
        reasons = {one.rejected_id: f"{one.reason}, {one.detail}" for one in sifted.rejects}
        raise StageError(
            f"export: {name} is in batch {lost['batch'][0]} and goes to no tuples ({reasons.get(name, 'scored holds it alone')}); "
            "drop these rows above the step `batches`, or the batches behind them are others than were planned"
        )


def _check(config: Config, splits: Mapping[Split, Sequence[Shard]]) -> None:
    names = list(columns(config))
    for shard in (shard for shards in splits.values() for shard in shards):
        if config.suffix == "parquet":
            check_parquet(shard.path, shard.rows, names, config.nullable)
        else:
            check_lines(shard.path, shard.rows, names)
