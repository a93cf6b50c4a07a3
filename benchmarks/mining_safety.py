"""Whether what is mined as a negative is one, where it is known what answers each query.

XQuAD's human questions are mined over a corpus in which copies of every paragraph stand, with some words changed, and windows
that overlap it (benchmarks/mining_planted.py says how they are made), each with an id and a title of its own. Nothing tells what they
are but their text. Other paragraphs are true negatives: that one of them is barred for the text that it shares with the
positive is the price. Collections whose qrels hold several positives for a query are mined with a pair for each.
"""

import tempfile
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeAlias

from benchmarks.filters import share, table
from benchmarks.judged import Collection, questions
from benchmarks.mining_bitext import bitext
from benchmarks.mining_build import MAY_SERVE, TAKE, Build, mined, write_lines
from benchmarks.mining_planted import COPIED_WINDOW, ORIGINAL, WINDOW, Planted, Planting
from benchmarks.mining_qrels import mine_judged, several, with_several
from pipeline.retrievers.analysis import text_key
from pipeline.stages.mining.copies import LEAST_COVERED
from pipeline.stages.mining.mine import SHARES_TEXT

__all__ = ["bitext", "safety"]

OVERLAPS = (1, LEAST_COVERED, 12, 20, 30, 40)
"""Words that a text has in common with a positive; a count is told for each stretch between two of them."""


Kind: TypeAlias = tuple[str, int]
"""What a text is to a pair (empty: it has no word of an answer), and of a window the least of the stretch of words it has."""
Counts: TypeAlias = Counter[tuple[str, Kind]]
"""By language and kind."""


class Case(NamedTuple):
    """Texts of a corpus by id, and of each pair its language and the paragraphs that answer its query."""

    corpus: Mapping[str, Planted]
    languages: Mapping[str, str]
    answers: Mapping[str, frozenset[str]]

    def kind(self, pair_id: str, doc_id: str) -> Kind:
        text = self.corpus[doc_id]
        words = max(text.words.get(own, 0) for own in self.answers[pair_id])
        is_window = text.kind in {WINDOW, COPIED_WINDOW}
        return text.kind if words else "", OVERLAPS[bisect(OVERLAPS, words) - 1] if words and is_window else 0

    def is_overlap(self, kind: Kind) -> bool:
        """Whether that may be no negative: fewer words of a window are no overlap, since sentences share so many."""
        return bool(kind[0]) and (kind[1] == 0 or kind[1] >= LEAST_COVERED)


class Found(NamedTuple):
    """How often what was found, by language and kind: among all hits, those that may serve, and the negatives."""

    hits: Counts
    let_through: Counts
    negatives: Counts
    needless: Counter[str]
    """By language: hits without a word of an answer that were barred for the text that they share with one."""
    examples: Counter[str]
    lacking: Counter[str]

    def of(self, counts: Counts, kinds: Iterable[Kind], tag: str = "") -> int:
        wanted = set(kinds)
        return sum(count for (its, kind), count in counts.items() if kind in wanted and tag in ("", its))


def safety(data: Path) -> None:
    """Print what was mined as a negative and is none."""
    collections = questions(data, 100_000)
    with tempfile.TemporaryDirectory(prefix="pairmill-safety-") as scratch:
        builds: dict[str, tuple[Path, Build]] = {}
        if collections:
            _show("XQuAD among copies and windows", *_planted(Path(scratch) / "planted", collections))
            folder = Path(scratch) / "halves"
            case, build = _halves(folder, collections), mine_judged(folder, folder / "mined")
            _show("XQuAD in halves, both of which answer", case, _counted(case, build))
            builds["XQuAD, in halves"] = folder, build
        for number, folder in enumerate(with_several(data)):
            builds[str(folder.relative_to(data))] = folder, mine_judged(folder, Path(scratch) / f"{number}")
        table("several positives a query", several(builds))


def _planted(folder: Path, collections: Mapping[str, Collection]) -> tuple[Case, Found]:
    texts = {tag: Planting(tag, _paragraphs(one)).everything() for tag, one in collections.items()}
    case = _case(collections, texts)
    write_lines(folder / "corpus.jsonl", _corpus(case))
    positives = {(one.language, one.of): one for one in case.corpus.values() if one.kind == ORIGINAL}
    pairs = (
        {
            "pair_id": f"{tag}-{pair.pair_id}",
            "query": pair.query,
            "positive": pair.positive,
            "positive_id": positives[tag, pair.positive_id].doc_id,
            "language": tag,
        }
        for tag, one in collections.items()
        for pair in one.pairs
    )
    build = mined(folder, pairs, {"kind": "read_jsonl", "path": str(folder / "corpus.jsonl")})
    return case, _counted(case, build)


def _paragraphs(collection: Collection) -> dict[str, str]:
    return {passage.doc_id: passage.text for passage in collection.passages}


def _corpus(case: Case) -> Iterator[dict[str, str]]:
    for number, text in enumerate(case.corpus.values()):
        yield {"_id": text.doc_id, "title": f"Title {number}", "text": text.text, "language": text.language}


def _case(collections: Mapping[str, Collection], texts: Mapping[str, Sequence[Planted]]) -> Case:
    """A question that is asked of several paragraphs is answered by all of them."""
    asked: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    every = [(tag, pair) for tag, one in collections.items() for pair in one.pairs]
    for tag, pair in every:
        asked[tag, text_key(pair.query)].add(pair.positive_id)
    answers = {f"{tag}-{pair.pair_id}": frozenset(asked[tag, text_key(pair.query)]) for tag, pair in every}
    corpus = {one.doc_id: one for one in chain.from_iterable(texts.values())}
    return Case(corpus, {f"{tag}-{pair.pair_id}": tag for tag, pair in every}, answers)


def _counted(case: Case, build: Build) -> Found:
    if unread := build.unread():
        raise SystemExit(f"{unread} pairs or passages of the case were not read: it is not what it should be")
    found = Found(Counter(), Counter(), Counter(), Counter(), Counter(), Counter())
    for one in build.judged():
        pair_id = _asked(one.pair_id)
        key = case.languages[pair_id], case.kind(pair_id, one.doc_id)
        found.hits[key] += 1
        found.let_through[key] += one.reason == MAY_SERVE
        found.needless[key[0]] += not key[1][0] and one.reason == SHARES_TEXT
    for example in build.examples():
        pair_id = _asked(example.pair_id)
        found.examples[case.languages[pair_id]] += 1
        found.negatives.update((case.languages[pair_id], case.kind(pair_id, one)) for one in example.negative_ids)
    found.lacking.update(case.languages[_asked(reject.row_id)] for reject in build.rejects())
    return found


def _asked(pair_id: str) -> str:
    """The query's id, where a pair's is that with the positive's after a blank."""
    return pair_id.split(" ", maxsplit=1)[0]


def _show(title: str, case: Case, found: Found) -> None:
    table(f"{title}: what was mined, by what it is", _by_kind(case, found))
    table(f"{title}: by language", _by_language(case, found))


def _by_kind(case: Case, found: Found) -> Iterator[Sequence[str]]:
    yield (
        "a text with words of the positive",
        "words of it",
        "texts of the kind",
        "hits",
        "let through, were all wanted",
        "negatives",
    )
    texts = Counter(text.kind for text in case.corpus.values())
    for kind in sorted({kind for _, kind in found.hits}):
        hits, let, taken = (found.of(counts, [kind]) for counts in (found.hits, found.let_through, found.negatives))
        yield (
            kind[0] or "none",
            _stretch(kind),
            f"{texts[kind[0]]:,}" if kind[0] else "",
            f"{hits:,}",
            f"{let:,} ({share(let, hits)})",
            f"{taken:,}",
        )


def _stretch(kind: Kind) -> str:
    if not kind[1]:
        return "" if kind[0] else "0"
    above = [bound - 1 for bound in OVERLAPS if bound > kind[1]]
    return f"{kind[1]}–{above[0]}" if above else f"{kind[1]} and more"


def _by_language(case: Case, found: Found) -> Iterator[Sequence[str]]:
    few = f"with 1 to {LEAST_COVERED - 1} words of it"
    yield (
        "language",
        "pairs",
        f"with {TAKE}",
        "negatives",
        "copies and overlaps",
        few,
        "unrelated hits",
        "barred of these",
    )
    kinds = {kind for _, kind in found.hits}
    overlaps = {kind for kind in kinds if case.is_overlap(kind)}
    others = {kind for kind in kinds if not kind[0]}
    for tag in (*sorted({*found.examples, *found.lacking}), ""):
        made, lacking, needless = (_all(counts, tag) for counts in (found.examples, found.lacking, found.needless))
        wrong, slight = (found.of(found.negatives, of, tag) for of in (overlaps, kinds - overlaps - others))
        unrelated = found.of(found.hits, others, tag)
        cells = made + lacking, made, made * TAKE, wrong, slight, unrelated
        yield tag or "all", *(f"{cell:,}" for cell in cells), f"{needless:,} ({share(needless, unrelated)})"


def _all(counts: Counter[str], tag: str) -> int:
    return counts[tag] if tag else counts.total()


def _halves(folder: Path, collections: Mapping[str, Collection]) -> Case:
    """Write a collection whose questions are answered by both halves of their paragraph, which share no text."""
    texts = {tag: Planting(tag, _paragraphs(one)).halves() for tag, one in collections.items()}
    case = _case(collections, texts)
    write_lines(folder / "corpus.jsonl", _corpus(case))
    asked = ((tag, pair) for tag, one in collections.items() for pair in one.pairs)
    write_lines(
        folder / "queries.jsonl",
        ({"_id": f"{tag}-{pair.pair_id}", "text": pair.query, "language": tag} for tag, pair in asked),
    )
    halves: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for text in case.corpus.values():
        if text.kind == ORIGINAL:
            halves[text.language, text.of].append(text.doc_id)
    judged = (
        f"{tag}-{pair.pair_id}\t{doc_id}\t1\n"
        for tag, one in collections.items()
        for pair in one.pairs
        for doc_id in halves[tag, pair.positive_id]
    )
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged), "utf-8")
    return case
