"""Whether sentences end where sentences end, in the Universal Declaration of Human Rights in 90 languages.

    python benchmarks/sentences.py --data FOLDER

FOLDER holds `udhr/udhr.jsonl`, whose rows are clauses or paragraphs, many to an article. Each article is split with its
rows joined by blanks, and each row alone. Three things are counted in each language:

- texts that the slices and the blanks between them do not give back, in order and without overlap: must be none;
- boundaries inside an ICU word: must be none;
- of the ends of rows inside an article that have a sentence-final mark, those that are found again, and how many
  boundaries lie elsewhere. Rows hold several sentences, so the latter are no errors: they are for reading (`--read TAG …`).
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import regex

from pipeline.languages import language
from pipeline.segmentation import sentences, words

_FINAL = regex.compile(r"[.!?。！？।॥؟۔።፧។៕။།༎։][\"'”’»)\]]*\Z")
Counts = Counter[str]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True, help="the folder that holds udhr/")
    arguments.add_argument(
        "--read", nargs="*", default=[], metavar="TAG", help="print the sentences of these languages"
    )
    given = arguments.parse_args()
    articles = read(given.data / "udhr" / "udhr.jsonl")
    for tag in given.read:
        show(tag, articles[tag])
    if not given.read:
        report({tag: measured(tag, texts) for tag, texts in articles.items()})


def read(path: Path) -> dict[str, list[list[str]]]:
    """The rows of each article, by language."""
    articles: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        articles[row["language"]][row["section"]].append(row["text"].strip())
    return {tag: list(sections.values()) for tag, sections in sorted(articles.items())}


def measured(tag: str, articles: list[list[str]]) -> Counts:
    counts: Counts = Counter()
    for rows in articles:
        article = " ".join(rows)
        for text in {article, *rows}:
            spans = list(sentences(text, tag))
            counts["texts"] += 1
            counts["not joined"] += not joins_back(text, spans)
            counts["in a word"] += sum(1 for _ in cut_words(text, spans))
        counts.update(rows_found(article, rows, tag))
    return counts


def joins_back(text: str, spans: list[tuple[int, int]]) -> bool:
    """Whether the spans are in order, hold something each, and leave only blanks out."""
    bounds = [0, *(at for span in spans for at in span), len(text)]
    gaps = zip(bounds[::2], bounds[1::2], strict=True)
    return all(start <= end and not text[start:end].strip() for start, end in gaps) and all(a < b for a, b in spans)


def cut_words(text: str, spans: list[tuple[int, int]]) -> Iterator[str]:
    bounds = {at for span in spans for at in span}
    for start, end in words(text):
        if not bounds.isdisjoint(range(start + 1, end)):
            yield text[start:end]


def rows_found(article: str, rows: list[str], tag: str) -> Counts:
    """The ends of rows with a sentence-final mark, but for the article's own end, against those of its sentences."""
    at = accumulate(len(row) + 1 for row in rows[:-1])
    rows_end = {end - 1: row for end, row in zip(at, rows, strict=False)}
    expected = {end for end, row in rows_end.items() if _FINAL.search(row)}
    found = {end for _, end in list(sentences(article, tag))[:-1]}
    return Counter({"rows": len(expected), "found": len(expected & found), "elsewhere": len(found - set(rows_end))})


def report(counted: dict[str, Counts]) -> None:
    columns = ("texts", "not joined", "in a word", "rows", "found", "elsewhere")
    print(f"| language | script | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 2)}")
    total: Counts = Counter()
    for tag, counts in counted.items():
        total.update(counts)
        cells = " | ".join(str(counts[column]) for column in columns)
        print(f"| {language(tag).name} ({tag}) | {language(tag).script} | {cells} |")
    whole = sum(counts["rows"] == counts["found"] for counts in counted.values())
    print(
        f"\n{len(counted)} languages, {total['texts']:,} texts: {total['not joined']} not joined back, {total['in a word']} "
        f"boundaries in a word; {total['found']:,} of {total['rows']:,} rows' ends found, all of them in {whole} languages"
    )


def show(tag: str, articles: list[list[str]]) -> None:
    """An article a paragraph, a sentence a line."""
    print(f"\n# {language(tag).name} ({tag})")
    for rows in articles:
        text = " ".join(rows)
        print(*(text[start:end] for start, end in sentences(text, tag)), "", sep="\n")


if __name__ == "__main__":
    main()
