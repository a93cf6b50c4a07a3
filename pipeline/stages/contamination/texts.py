"""The texts of benchmarks, as decontamination compares them with pairs.

A benchmark is a folder in BEIR's layout, any part of which may be missing, or a plain file of texts. A part that cannot be
read stops the step: to pass over it would leave its texts in the training data, and nobody would know.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from pipeline.rows import Reject
from pipeline.stages.base import StageError
from pipeline.stages.read_sources import JSON_SUFFIXES, DataFile, Line, data_files, json_lines

CorpusChoice: TypeAlias = Literal["judged", "all", "none"]
Part: TypeAlias = Literal["query", "passage", "text"]

_QUERIES, _CORPUS, _QRELS = "queries", "corpus", "qrels"
_ID_KEYS = ("_id", "id", "query_id", "doc_id")
_LONGEST_LINE = 64_000_000


class BenchmarkText(NamedTuple):
    """One text of a benchmark. A line without an id has its number, from 1."""

    benchmark: str
    part: Part
    text_id: str
    text: str


def benchmark_texts(path: Path, corpus: CorpusChoice) -> Iterator[BenchmarkText]:
    """All texts of the benchmarks at a path, in the order of their names.

    A file is one benchmark. In a folder each folder with queries.jsonl or corpus.jsonl is one, named by its relative path,
    and so is each other file of JSON lines, with texts under "query" or "text". Of a corpus those passages count that the
    qrels beside it call relevant, or all where there are no qrels; with `corpus` "all" or "none", all or none.

    Raises StageError where there is no such file, or for a line that cannot be read.
    """
    files = data_files(path, JSON_SUFFIXES)
    if path.is_file():
        yield from _texts(_bare(files[0].name), "text", files)
        return
    for folder, group in groupby(sorted(files, key=lambda file: (file.path.parent, file.name)), _folder):
        yield from _of_folder(path, folder, list(group), corpus)


def _folder(file: DataFile) -> Path:
    return file.path.parent


def _of_folder(path: Path, folder: Path, files: Sequence[DataFile], corpus: CorpusChoice) -> Iterator[BenchmarkText]:
    """The texts of one folder's files; those in a folder `qrels` beside a benchmark's files are judgments."""
    if folder != path and folder.name == _QRELS:
        return
    name = folder.relative_to(path).as_posix() if folder != path else path.resolve().name
    named = [(_bare(file.path.name), file) for file in files]
    yield from _texts(name, "query", [file for bare, file in named if bare == _QUERIES])
    if corpus != "none":
        judged = _relevant(folder) if corpus == "judged" else None
        passages = _texts(name, "passage", [file for bare, file in named if bare == _CORPUS])
        yield from (text for text in passages if judged is None or text.text_id in judged)
    for bare, file in named:
        if bare not in {_QUERIES, _CORPUS, _QRELS}:
            yield from _texts(_bare(file.name), "text", [file])


def _bare(name: str) -> str:
    """A file's name without what says how it is written."""
    suffix = max((suffix for suffix in JSON_SUFFIXES if name.endswith(suffix)), key=len, default="")
    return name.removesuffix(suffix)


def _texts(name: str, part: Part, files: Iterable[DataFile]) -> Iterator[BenchmarkText]:
    keys = ("title", "text") if part == "passage" else ("query", "text")
    for file in files:
        for number, line in enumerate(_lines(file.path), 1):
            text_id = next((str(line.values[key]) for key in _ID_KEYS if line.values.get(key) is not None), str(number))
            if text := _text(line, keys):
                yield BenchmarkText(name, part, text_id, text)


def _text(line: Line, keys: Sequence[str]) -> str:
    """What stands under the keys, the one below the other. Collections have blank texts, which nothing can copy."""
    given = [value for key in keys if (value := line.values.get(key)) is not None]
    if not given or not all(isinstance(value, str) for value in given):
        raise StageError(
            f"{line.row_id}: no text under {' or '.join(map(repr, keys))}; it has {', '.join(map(repr, line.values))}. "
            "Mend the line, or take the file out of the benchmarks"
        )
    return "\n".join(str(value) for value in given if str(value).strip())


def _lines(path: Path) -> Iterator[Line]:
    for line in json_lines(DataFile(str(path), path), _LONGEST_LINE):
        if isinstance(line, Reject):
            raise StageError(f"{line.rejected_id}: {line.reason}, {line.detail}; a benchmark must be read whole")
        yield line


def _relevant(folder: Path) -> set[str] | None:
    """The ids of the passages that a judgment of any split calls relevant; None where there are no judgments."""
    written = [file for pattern in ("qrels.*", "qrels/*") for file in sorted(folder.glob(pattern)) if file.is_file()]
    tables = [file for file in written if file.suffix == ".tsv"]
    lists = [file for file in written if file.name.endswith(JSON_SUFFIXES)]
    if not tables and not lists:
        return None
    judged = [*map(_judged_in_table, tables), *map(_judged_in_lines, lists)]
    return {passage for found in judged for passage, score in found if score > 0}


def _judged_in_table(path: Path) -> Iterator[tuple[str, float]]:
    """Passages and scores of `query-id, corpus-id, score`, with a heading or without, or of TREC's four columns."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            fields = line.rstrip("\n").split("\t")
            try:
                yield fields[-2], float(fields[-1])
            except (IndexError, ValueError) as cause:
                if number > 1 and line.strip():
                    raise StageError(
                        f"{path}:{number}: not query-id, corpus-id and score between tabs: {line.strip()[:100]!r}"
                    ) from cause


def _judged_in_lines(path: Path) -> Iterator[tuple[str, float]]:
    for line in _lines(path):
        try:
            yield str(line.values["corpus-id"]), float(str(line.values.get("score", 1)))
        except (KeyError, ValueError) as cause:
            raise StageError(f"{line.row_id}: not query-id, corpus-id and score: {dict(line.values)}") from cause
