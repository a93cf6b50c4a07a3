"""The check that a text was not cut off before its end.

A bracket left open says so by itself. A missing full stop says so only where there ought to be one, and nobody has to put one
after a query: so the pairs of the build are asked first. Where nearly all queries in Russian end in a mark, one that does not
is cut off; where queries are keywords, or the language is Thai, none is judged. A paraphrase or a translation has a twin: it
is held to its sentence's mark wherever others keep to theirs.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import regex
from pydantic import Field, PositiveInt

from pipeline.languages import UnknownLanguageError, language
from pipeline.rows import Pair, Task
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Check, Fault, Judge, fault, real, written
from pipeline.store import write_bytes

Share = Annotated[float, Field(gt=0.5, le=1)]
Group: TypeAlias = tuple[str, str]
"""A task and the language of the written side."""

# Those of Unicode's Sentence_Terminal and Terminal_Punctuation that end a sentence, the semicolon as Greek's question mark.
_MARKS = ".!?;…‥‼‽⁇⁈⁉。！？｡．؟؞۔⸮।॥։።፧፨။៕។།༎༏᠃᠉꓿꘎꛳᱾᱿꩝"
_AFTER = " \t\n\r\f\v\u200b\u200e\u200f\u2060\ufeff\xa0\u202f\u3000\"'”’“‘»›«‹)]}）］｝」』】〉》〗*_"
# Without “ and «, which close quotations in German and Danish.
_OPEN_ENDS = frozenset(",，、،﹐፣၊՝:：-‐–—‑([{（［｛「『【〈《〖¿¡„&+=/\\@#")
# C++, C#, Disney+, a path and "5+5=" end so, where nothing parts the sign from what it belongs to.
_ATTACHED = frozenset("+=/\\#")
# As a full stop is typed, or a word is parted, in these languages.
_ENDS_IN_COLON = ("hy", "am", "ti")

_OPENING, _CLOSING = "[({（［｛「『【〈《〖", "])}）］｝」』】〉》〗"
_TURNED, _UPRIGHT = "¿¡", "?!？！"
_QUOTING = '"“”„‟«»‹›＂'
_PAIRED = re.compile(f"[{re.escape(_OPENING + _CLOSING)}{_QUOTING}{_TURNED}]")
_ENCLOSING = re.compile(f"[{re.escape(_OPENING + _CLOSING)}{_QUOTING}]")
# Neither gershayim in a Hebrew word nor inches are quotation marks; a face is no bracket.
_QUOTES = regex.compile(r"""(?<!\p{Hebrew})"|"(?!\p{Hebrew})|[“”„‟«»‹›＂]""")
_INCHES, _FACES = regex.compile(r'(?<=\d)"'), regex.compile(r"[:;=8]'?-?[(\[{]|\([:;=8]")


class CutOff(Check):
    """The written side goes on to its end. Reason: cut_off.

    It closes what it opens and does not end in a comma, a colon, a hyphen or an opening mark, unless its twin does the same.
    Where `query_share` of the queries in its language, at least `min_rows` of them, end in a final mark, so does this one;
    where fewer are in its language, all in its script speak for it. So does a paraphrase or translation of a sentence that
    ends in one, where `twin_share` of those do. A passage two of whose queries go without has a habit of its own. Score and
    threshold are those shares; a language that writes no final marks is judged by what is left open alone.
    """

    made_for: ClassVar[tuple[Task, ...]] = ("retrieval", "similarity", "bitext")
    kind: Literal["cut_off"] = "cut_off"
    query_share: Share = 0.9
    twin_share: Share = 0.95
    min_rows: PositiveInt = 30

    def build(self, context: Context) -> None:
        counts = _counted(context)
        shares = self._shares(counts)
        unmarked = _passages_without(context, {tag for task, tag in shares if task == "retrieval"})
        content = {"shares": [[*group, share] for group, share in shares.items()], "passages": unmarked}
        write_bytes(context.folder / _HABITS, json.dumps(content).encode())

    def _shares(self, counts: "Mapping[Group, _Count]") -> dict[Group, float]:
        """The share that ends in a mark, of each group where that is a habit."""
        scripts: dict[Group, _Count] = {}
        for (task, tag), count in counts.items():
            key = task, _script(tag)
            scripts[key] = count.plus(scripts.get(key, _Count(0, 0)))
        shares = {}
        for (task, tag), own in counts.items():
            count = own if own.rows >= self.min_rows else scripts[task, _script(tag)]
            least = self.query_share if task == "retrieval" else self.twin_share
            if count.rows >= self.min_rows and count.marked >= least * count.rows:
                shares[task, tag] = count.marked / count.rows
        return shares

    def open(self, context: Context) -> Judge:
        habits = _Habits.read(context)

        def judge(pair: Pair) -> Fault | None:
            text = written(pair)
            if text[-1:] in _FINAL and not _has_pairs(text):
                return None  # as most do
            twin = "" if pair.task == "retrieval" else real(pair)
            if (left := _left_open(text, _tag(pair))) and left != _left_open(twin, pair.query_language):
                return fault("cut_off", f"{left}: {_tail(text)}")
            if _is_marked(text) or not (share := habits.expects_mark(pair, twin)):
                return None
            least = self.query_share if pair.task == "retrieval" else self.twin_share
            return fault("cut_off", f"no final mark, which {share:.1%} have: {_tail(text)}", share, least)

        return judge


_HABITS = "habits.json"


class _Count(NamedTuple):
    """Of so many rows, so many end in a mark."""

    marked: int
    rows: int

    def plus(self, other: "_Count") -> "_Count":
        return _Count(self.marked + other.marked, self.rows + other.rows)


class _Habits(NamedTuple):
    """The shares of those groups in which a final mark is a habit, and the passages whose queries have another."""

    shares: Mapping[Group, float]
    passages: frozenset[str]

    @classmethod
    def read(cls, context: Context) -> "_Habits":
        path = context.folder / _HABITS
        if not path.exists():
            return cls({}, frozenset())
        content = json.loads(path.read_bytes())
        shares = {(task, tag): share for task, tag, share in content["shares"]}
        return cls(shares, frozenset(content["passages"]))

    def expects_mark(self, pair: Pair, twin: str) -> float | None:
        """How many of its like end in a final mark, if that is a habit."""
        share = self.shares.get((pair.task, _tag(pair)))
        if not share or (pair.positive_id in self.passages if pair.task == "retrieval" else not _is_marked(twin)):
            return None
        return share


def _tag(pair: Pair) -> str:
    return pair.query_language if pair.task == "retrieval" else pair.positive_language


def _tail(text: str) -> str:
    return text if len(text) <= 120 else f"…{text[-120:]}"


def _is_marked(text: str) -> bool:
    return text.rstrip(_AFTER)[-1:] in _FINAL


_FINAL = frozenset(_MARKS)


def _has_pairs(text: str) -> bool:
    """Whether a text has signs that come in pairs, besides the marks around a question."""
    if "¿" not in text and "¡" not in text:
        return _PAIRED.search(text) is not None
    return _ENCLOSING.search(text) is not None or _count(_TURNED, text) > _count(_UPRIGHT, text)


def _left_open(text: str, tag: str) -> str | None:
    """What a text opens and does not close, or the mark it ends in that something should follow."""
    signs = frozenset(_PAIRED.findall(text))
    plain = text.rstrip()
    if not signs.isdisjoint(_OPENING):
        plain = _FACES.sub("", text).rstrip()
    if _goes_on(plain, tag):
        return f"ends in {plain[-1]}"
    if not signs:
        return None
    if not signs.isdisjoint(_OPENING) and _count(_OPENING, plain) > _count(_CLOSING, plain):
        return "open bracket"
    if not signs.isdisjoint(_TURNED) and _count(_TURNED, text) > _count(_UPRIGHT, text):
        return "open question"
    return "open quotation" if not signs.isdisjoint(_QUOTING) and _has_open_quote(text) else None


def _goes_on(text: str, tag: str) -> bool:
    """Whether a text ends in a mark that something should follow."""
    end, before = text[-1:], text[-2:-1]
    if end in _ATTACHED:
        return not before or before.isspace()
    return end in _OPEN_ENDS and not (end == ":" and (before == ":" or tag.startswith(_ENDS_IN_COLON)))


def _has_open_quote(text: str) -> bool:
    """Whether the quotation marks of a text are odd in number, whatever their shape, which people mix."""
    return len(_QUOTES.findall(text)) % 2 == 1 and len(_QUOTES.findall(_INCHES.sub("", text))) % 2 == 1


def _count(signs: str, text: str) -> int:
    return sum(map(text.count, signs))


@lru_cache(maxsize=1024)
def _script(tag: str) -> str:
    try:
        return language(tag).script
    except UnknownLanguageError:
        return tag


def _counted(context: Context) -> dict[Group, _Count]:
    """By task and language: how many written sides end in a mark, of queries, or of those whose twin does."""
    counts: dict[Group, _Count] = {}
    for table in context.inputs["input"].tables(_COLUMNS):
        is_query = pc.equal(table["task"], "retrieval")
        on_query, on_positive = _marked(table["query"]), _marked(table["positive"])
        for kind, marked, tags in (
            (is_query, on_query, "query_language"),
            (pc.and_(pc.invert(is_query), on_query), on_positive, "positive_language"),
        ):
            for group, count in _by_group(table, kind, marked, tags):
                counts[group] = count.plus(counts.get(group, _Count(0, 0)))
    return counts


_COLUMNS = ["task", "query", "query_language", "positive", "positive_language"]


def _by_group(
    table: pa.Table, kind: pa.ChunkedArray, marked: pa.ChunkedArray, tags: str
) -> Iterator[tuple[Group, _Count]]:
    rows = pa.table({"task": table["task"], "tag": table[tags], "marked": marked}).filter(kind)
    counted = rows.group_by(["task", "tag"]).aggregate([("marked", "sum"), ("marked", "count")])
    for row in counted.to_pylist():
        yield (row["task"], row["tag"]), _Count(int(row["marked_sum"] or 0), row["marked_count"])


def _marked(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """1 where a text ends in a final mark, 0 elsewhere; the same as `_is_marked`."""
    ends = pc.utf8_slice_codeunits(pc.utf8_rtrim(texts, characters=_AFTER), start=-1)
    return pc.is_in(ends, value_set=pa.array(sorted(_FINAL), ends.type))


def _passages_without(context: Context, tags: set[str]) -> list[str]:
    """Passages of whose queries in these languages two or more end in no mark. Memory: the ids of such queries' passages."""
    without = [pa.array([], pa.string())]
    for table in context.inputs["input"].tables(["task", "query", "query_language", "positive_id"]):
        judged = pc.is_in(table["query_language"], value_set=pa.array(sorted(tags), pa.string()))
        of = table.filter(pc.and_(pc.equal(table["task"], "retrieval"), judged))
        without += of["positive_id"].filter(pc.invert(_marked(of["query"]))).chunks
    counted = pc.value_counts(pa.concat_arrays(without))
    twice = counted.field("values").filter(pc.greater_equal(counted.field("counts"), 2))
    return sorted(twice.to_pylist())
