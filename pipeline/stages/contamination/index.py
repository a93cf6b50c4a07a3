"""What texts share with the texts of benchmarks: an index that is built once, and looked up in from files that are mapped."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow as pa

from pipeline.stages.contamination.ngrams import PARTS, tokens, weight, word_runs
from pipeline.stages.contamination.postings import Postings, Spill
from pipeline.stages.contamination.similar import Similar, SimilarBuilder
from pipeline.stages.contamination.texts import BenchmarkText
from pipeline.stages.wording import folded, sentence_key

_TEXTS, _RUNS, _SIMILAR = "texts.arrow", "runs", "similar"
_SCHEMA = pa.schema([(name, pa.string()) for name in BenchmarkText._fields])
_TEXTS_AT_ONCE = 500
_LETTERS_AT_ONCE = 500_000

T = TypeVar("T")


class Shared(NamedTuple):
    """What a text shares with a benchmark's: a run of words and how many, or the whole text and how similar it is."""

    text: BenchmarkText
    words: str
    score: float
    threshold: float


def build(texts: Iterable[BenchmarkText], folder: Path, n: int, near: float) -> bool:
    """Index the texts for `Contamination`; whether there was one."""
    folder.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_file(folder / _TEXTS, _SCHEMA) as file:
        for block in blocks(texts, lambda one: len(one.text)):
            columns = [[_storable(value) for value in column] for column in zip(*block, strict=True)]
            file.write_batch(pa.record_batch(columns, schema=_SCHEMA))
    kept = _Kept(folder / _TEXTS)
    _index(kept, Spill(folder / _RUNS), SimilarBuilder(folder / _SIMILAR, near), n)
    return len(kept) > 0


def _storable(text: str) -> str:
    """A text or an id without lone surrogates, which cannot be stored."""
    return text.encode("utf-8", "replace").decode()


def _index(kept: "_Kept", runs: Spill, similar: SimilarBuilder, n: int) -> None:
    for first, texts in kept.blocks():
        plain = list(map(folded, texts))
        found = word_runs(tokens(plain), n)
        runs.add(found.numbers, found.owners + first)
        similar.count(list(map(sentence_key, plain)))
    # The first text that has a run stands for all: what many share is no more contaminated for it.
    runs.close(first_only=True)
    for _, texts in kept.blocks():
        similar.add([sentence_key(folded(text)) for text in texts])
    similar.close()


class Contamination:
    """What was built, opened. `n` and `near` are those of `build`."""

    def __init__(self, folder: Path, n: int, near: float) -> None:
        self.n, self.near = n, near
        self._kept = _Kept(folder / _TEXTS)
        self._runs = Postings(folder / _RUNS)
        self._similar = Similar(folder / _SIMILAR, near, lambda number: sentence_key(self._plain(number)))
        self._tokens_of = lru_cache(maxsize=1_000)(lambda number: tokens([self._plain(number)])[0])

    def find(self, given: Iterable[str]) -> dict[str, Shared]:
        """For each text that shares something: its first run that a benchmark has, or else the text most similar to it."""
        texts = {text: folded(text) for text in given}
        found = self._shared_runs(texts)
        rest = [text for text in texts if text not in found]
        for place, (likeness, number) in self._similar.find([sentence_key(texts[text]) for text in rest]).items():
            text = self._kept[number]
            found[rest[place]] = Shared(text, " ".join(text.text.split()), likeness, self.near)
        return found

    def _shared_runs(self, texts: Mapping[str, str]) -> dict[str, Shared]:
        names, spaced = list(texts), tokens(list(texts.values()))
        runs = word_runs(spaced, self.n)
        wanted, places = self._runs.find(runs.numbers)
        found: dict[str, Shared] = {}
        for run, place in sorted(zip(wanted.tolist(), places.tolist(), strict=True)):
            owner, number = int(runs.owners[run]), int(self._runs.texts[place])
            if names[owner] in found:
                continue
            words = _shared_run(spaced[owner], runs.starts[run], runs.ends[run], self._tokens_of(number))
            if words:
                found[names[owner]] = Shared(self._kept[number], words, weight(words) / PARTS, self.n)
        return found

    def _plain(self, number: int) -> str:
        return folded(self._kept[number].text)


def _shared_run(one: str, start: int, end: int, other: str) -> str:
    """The run of one text, as far as the other goes on like it; empty where it has it by its number alone."""
    at = f" {other} ".find(f" {one[start:end]} ")
    if at < 0:
        return ""
    pairs = zip(one[start:].split(" "), other[at:].split(" "), strict=False)
    return " ".join(word for word, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


class _Kept:
    """The benchmarks' texts by number, in a file that is mapped."""

    def __init__(self, path: Path) -> None:
        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, number: int) -> BenchmarkText:
        return BenchmarkText(*(column[number].as_py() for column in self._table.columns))

    def blocks(self) -> Iterator[tuple[int, list[str]]]:
        """The texts as they were written, block by block, each with the number of its first."""
        first = 0
        for chunk in self._table["text"].chunks:
            yield first, chunk.to_pylist()
            first += len(chunk)


def blocks(given: Iterable[T], letters: Callable[[T], int]) -> Iterator[list[T]]:
    """Lists that have not too many things together, nor too many letters."""
    block: list[T] = []
    size = 0
    for one in given:
        block.append(one)
        size += letters(one)
        if len(block) == _TEXTS_AT_ONCE or size > _LETTERS_AT_ONCE:
            yield block
            block, size = [], 0
    if block:
        yield block
