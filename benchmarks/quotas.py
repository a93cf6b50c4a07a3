"""Whether a build over 93 languages keeps its quotas and weights, and its ids whatever the order and the workers.

    python -m benchmarks.quotas --data FOLDER --documents 50000

FOLDER holds `udhr/udhr.jsonl`, the Universal Declaration of Human Rights in 90 languages, a clause or paragraph a row. A
document is one to four rows of a language, no two alike (seeded), and the languages have documents as Zipf has words:
the one of rank r by its speakers has the r-th part of the first's. Of Assamese, Odia and Sindhi there is no text; their
documents are Bengali, Hindi and Urdu ones with another tag, since only the tag is looked at here.

The corpus is built twice by `pairmill run` with `echo`: shuffled, on one CPU, and in order, on two, in other parts. Quotas
must be met exactly. What is drawn must fit its weights by Pearson's chi-square, on every axis: the bound is such that
chance alone would fail one run in a hundred (0.01, shared by the axes). The samples of a seed depend on each other, so the
first and the second are tested apart.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import erfc, exp, lgamma, log, sqrt
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from pipeline.languages import expanded, language
from pipeline.rows import Document, Generation, Pair, Row
from pipeline.stages.quotas import quotas
from pipeline.store import Artifact, Dataset

RELABELLED = {"as": "bn", "or": "hi", "sd": "ur"}
"""The languages without a text, each with the one whose texts stand in for it."""

ALPHA = 0.5
SAMPLES = 2
OFTEN = 0.01
"""How often chance alone may fail a run."""

QUERY_LANGUAGE = {"same": 0.8, "en": 0.2}
ENGINES = {"writer": 3.0, "second": 1.0}
FACETS: Mapping[str, Mapping[str, float]] = {
    "question_type": {"keywords": 1, "acquire_knowledge": 4, "summary": 2, "yes_or_no": 1, "background": 2},
    "difficulty": {"high_school": 3, "university": 2, "phd": 1},
    "persona": {"a nurse on night shift": 1, "a history teacher": 1, "a bus driver": 1},
    "length": {"5-10": 3, "11-20": 2, "21-40": 1},
}
STEPS: Mapping[str, type[Row]] = {
    "corpus": Document,
    "seeds": Document,
    "queries": Generation,
    "translations": Generation,
    "retrieval": Pair,
    "bitext": Pair,
}
Cell: TypeAlias = tuple[str, ...]
Texts: TypeAlias = Mapping[str, Sequence[str]]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True, help="the folder that holds udhr/")
    arguments.add_argument("--documents", type=int, default=50_000)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="pairmill-quotas-") as folder:
        passed = measure(given.data / "udhr" / "udhr.jsonl", given.documents, Path(folder))
    if not passed:
        sys.exit(1)


def measure(source: Path, count: int, folder: Path) -> bool:
    """Both builds and what is to be said of them; whether all held."""
    documents = corpus(read(source), count)
    head("build", "CPUs", "rows a part", "documents", "sampled", "requests", "pairs", "seconds")
    shuffled = random.Random(0).sample(documents, len(documents))
    one = built("shuffled", shuffled, folder, cpus=1, part_rows=2000)
    two = built("in order", documents, folder, cpus=2, part_rows=700)
    print()
    head("axis", "draws", "cells", "chi-square", "degrees", "p")
    found = list(axes(one))
    for axis in found:
        print(axis.line())
    print()
    checks = list(verdicts(one, two, Counter(row["language"] for row in documents), found))
    for passed, said in checks:
        print("PASS" if passed else "FAIL", said)
    return all(passed for passed, _ in checks)


def head(*columns: str) -> None:
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)


@cache
def the_93() -> tuple[str, ...]:
    return expanded(["xlm-r"])


def read(path: Path) -> Texts:
    """The distinct rows of each language, for those without any another's."""
    texts: dict[str, dict[str, None]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts.setdefault(row["language"], {})[row["text"].strip()] = None
    return {tag: list(texts[RELABELLED.get(tag, tag)]) for tag in the_93()}


def corpus(texts: Texts, count: int) -> list[dict[str, str]]:
    """So many documents, language after language, the most spoken first and with most of them."""
    rng = random.Random(0)
    ranked = sorted(texts, key=lambda tag: (-language(tag).speakers, tag))
    scale = count / sum(1 / rank for rank in range(1, len(ranked) + 1))
    sizes = {tag: int(scale / rank) for rank, tag in enumerate(ranked, start=1)}
    sizes[ranked[0]] += count - sum(sizes.values())
    chosen = ((tag, rows) for tag, size in sizes.items() for rows in combinations(len(texts[tag]), size, rng))
    return [document(tag, rows, texts) for tag, rows in chosen]


def document(tag: str, rows: Sequence[int], texts: Texts) -> dict[str, str]:
    text = "\n".join(texts[tag][row] for row in rows)
    return {"doc_id": "-".join((tag, *map(str, rows))), "text": text, "language": tag}


def combinations(rows: int, count: int, rng: random.Random) -> list[tuple[int, ...]]:
    """So many different choices of one to four rows."""
    found: dict[tuple[int, ...], None] = {}
    while len(found) < count:
        found[tuple(sorted(rng.sample(range(rows), rng.randint(1, 4))))] = None
    return list(found)


def sampling(documents: int) -> tuple[int, int, dict[str, int]]:
    """The sample's size, the least and the most that it takes of a language, in proportion to the corpus."""
    return documents * 2 // 5, documents * 3 // 1000, {"zh": documents // 100}


def recipe(path: Path, documents: int) -> dict[str, Any]:
    n, floor, caps = sampling(documents)
    facets = {name: dict(weights) for name, weights in FACETS.items()}
    length, writes = facets.pop("length"), {"kind": "generate", "input": "seeds"}
    drawn = {"language": QUERY_LANGUAGE, "engine": ENGINES, "length": length, "facets": facets, "samples": SAMPLES}
    bounds = {"n": n, "alpha": ALPHA, "at_least": floor, "per_language": {**caps, "*": n}}
    rules = {"en": ["xlm-r"], "*": "en"}
    steps = {
        "corpus": {"kind": "read_jsonl", "path": str(path)},
        "seeds": {"kind": "sample", "input": "corpus", **bounds},
        "queries": {**writes, "prompt": "write_query_as", **drawn},
        "translations": {**writes, "prompt": "translate", "engine": "writer", "language": rules},
        "retrieval": {"kind": "parse_query", "input": "queries"},
        "bitext": {"kind": "parse_translation", "input": "translations"},
    }
    return {"name": "quotas", "engines": {name: {"kind": "echo"} for name in ENGINES}, "steps": steps}


@dataclass(frozen=True)
class Build:
    """The rows of a build that was run."""

    folder: Path

    def columns(self, step: str, *names: str) -> list[tuple[Any, ...]]:
        """These columns of a step, a row a tuple, in the order of its rows."""
        (folder,) = self.folder.glob(f"{step}-*")
        tables = Dataset(STEPS[step], (Artifact(folder),)).tables(names)
        return [tuple(row.values()) for table in tables for row in table.select(names).to_pylist()]

    @cached_property
    def ids(self) -> dict[str, list[str]]:
        """The ids of every step's rows, sorted: what stands twice is seen."""
        return {
            step: sorted(row_id for (row_id,) in self.columns(step, rows.schema.names[0]))
            for step, rows in STEPS.items()
        }


def built(name: str, documents: Sequence[Mapping[str, str]], root: Path, **runtime: int) -> Build:
    """Run the build, and print a line of it."""
    folder = root / name.replace(" ", "-")
    folder.mkdir()
    path, config = folder / "corpus.jsonl", folder / "config.yaml"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in documents), "utf-8")
    raw = {"recipe": recipe(path, len(documents)), "runtime": {"root": str(folder), "ray": "local", **runtime}}
    config.write_text(yaml.safe_dump(raw, sort_keys=False))
    began = time.monotonic()
    command = [sys.executable, "-m", "pipeline", "run", str(config), "--quiet"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"pairmill run ended with {done.returncode}: {done.stderr.decode()}")
    seconds, build = time.monotonic() - began, Build(folder / "quotas")
    count = {step: len(ids) for step, ids in build.ids.items()}
    asked, pairs = count["queries"] + count["translations"], count["retrieval"] + count["bitext"]
    cells = (*runtime.values(), count["corpus"], count["seeds"], asked, pairs)
    print(f"| {name} | {' | '.join(f'{value:,}' for value in cells)} | {seconds:.1f} |", flush=True)
    return build


@dataclass(frozen=True)
class Axis:
    """What was drawn, against how often it was to be drawn; `groups` of cells whose sums are given."""

    name: str
    observed: Counter[Cell]
    expected: Mapping[Cell, float]
    groups: int = 1

    @property
    def statistic(self) -> float:
        # What no weight names was hardly to be expected.
        cells = ((self.observed[cell], self.expected.get(cell, 1e-9)) for cell in {*self.observed, *self.expected})
        return sum((seen - wanted) ** 2 / wanted for seen, wanted in cells)

    @property
    def degrees(self) -> int:
        return len(self.expected) - self.groups

    @property
    def p(self) -> float:
        return survival(self.statistic, self.degrees)

    def line(self) -> str:
        sizes = f"{self.observed.total():,} | {len(self.expected)}"
        return f"| {self.name} | {sizes} | {self.statistic:.1f} | {self.degrees} | {self.p:.3f} |"


def survival(statistic: float, degrees: int) -> float:
    """How often a chi-square of so many degrees is larger (Abramowitz and Stegun, 26.4.4 and 26.4.5; exact)."""
    half = statistic / 2
    if half <= 0:
        return 1.0
    powers = (number + degrees % 2 / 2 for number in range(degrees // 2))
    terms = (exp(power * log(half) - half - lgamma(power + 1)) for power in powers)
    return (erfc(sqrt(half)) if degrees % 2 else 0.0) + sum(terms)


def axes(build: Build) -> Iterator[Axis]:
    """All that was drawn: of each query its language by the document's, its facets and its writer; of English its translations."""
    rows = build.columns("queries", "seed_language", "language", "engine", "facets")
    for nth in range(SAMPLES):
        drawn, of = rows[nth::SAMPLES], f"sample {nth + 1}"
        yield languages(f"query language by document language, {of}", [(seed, tag) for seed, tag, *_ in drawn])
        yield weighted(f"engine, {of}", [engine for _, _, engine, _ in drawn], ENGINES)
        for name, weights in FACETS.items():
            yield weighted(f"{name}, {of}", [dict(facets)[name] for *_, facets in drawn], weights)
    translations = build.columns("translations", "seed_language", "language")
    from_english = [tag for seed, tag in translations if seed == "en"]
    yield weighted("translations from English", from_english, {tag: 1 for tag in the_93() if tag != "en"})


def weighted(name: str, values: Sequence[str], weights: Mapping[str, float]) -> Axis:
    scale = len(values) / sum(weights.values())
    return Axis(
        name, Counter((value,) for value in values), {(value,): weight * scale for value, weight in weights.items()}
    )


def languages(name: str, drawn: Sequence[Cell]) -> Axis:
    """A query's language given its document's: for English both rules are one."""
    expected: defaultdict[Cell, float] = defaultdict(float)
    counts = Counter(seed for seed, _ in drawn)
    for seed, count in counts.items():
        for rule, weight in QUERY_LANGUAGE.items():
            expected[seed, seed if rule == "same" else rule] += count * weight
    return Axis(name, Counter(drawn), expected, groups=len(counts))


def verdicts(one: Build, two: Build, counts: Mapping[str, int], found: Sequence[Axis]) -> Iterator[tuple[bool, str]]:
    """What must hold, each with what was seen."""
    n, floor, caps = sampling(sum(counts.values()))
    wanted = quotas(counts, n, ALPHA, dict.fromkeys(counts, floor), caps)
    got = Counter(tag for (tag,) in one.columns("seeds", "language"))
    at_floor = sum(quota == floor < counts[tag] for tag, quota in wanted.items())
    whole = sum(quota == counts[tag] for tag, quota in wanted.items())
    kinds = f"{len(caps)} at its cap, {at_floor} at their floor, {whole} with all that they have"
    yield got == wanted, f"quotas of {len(wanted)} languages met exactly ({kinds})"
    least = min(found, key=lambda axis: axis.p)
    said = f"{len(found)} axes fit their weights: the least p is {least.p:.3f} ({least.name})"
    yield least.p >= OFTEN / len(found), said
    pairs = one.columns("retrieval", "positive_language", "query_language")
    for place, side in enumerate(("document", "query")):
        there = {row[place] for row in pairs}
        yield there == set(the_93()), f"{len(there)} of {len(the_93())} languages are there as a {side} of a pair"
    translations = one.columns("translations", "seed_language", "language")
    alike = sum((seed == "en") == (tag == "en") for seed, tag in translations)
    yield not alike, f"{alike} of {len(translations):,} translations asked for without English on just one side"
    for step, ids in one.ids.items():
        same = ids == two.ids[step] and len(set(ids)) == len(ids)
        yield same, f"{step}: the same {len(ids):,} ids in both builds, each once"


if __name__ == "__main__":
    main()
