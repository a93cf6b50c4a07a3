"""The search engines that pairmill's mining is held against, each as its own users run it, on two threads.

    python -m benchmarks.mining_peers SYSTEM FOLDER QUERIES

FOLDER is one of mining_text's. A system indexes its documents, searches for some queries so that compilers and caches are
warm, then for so many with the clock running, and what it took is printed as JSON.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from pipeline.retrievers.java import installed

THREADS = 2
BEST = 100
WARM = 1000


class Search(NamedTuple):
    """An index that was built: what searches it for many queries, and what says which documents came first, by number."""

    search: Callable[[Sequence[str]], Any]
    first: Callable[[Any], list[int]]


def main() -> None:
    system, folder, most = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    try:
        told = run(system, folder, most)
    except ImportError as missing:
        told = {"missing": str(missing)}
    print(json.dumps(told))


def run(system: str, folder: Path, most: int) -> dict[str, Any]:
    """Seconds to build and to search, and the share of queries whose own document comes first."""
    if system == "sentence-transformers":
        return mine_by_embedder(folder, most)
    with tempfile.TemporaryDirectory(prefix=f"pairmill-{system}-") as scratch:
        began = time.perf_counter()
        search, first = PEERS[system](folder, Path(scratch))
        build = time.perf_counter() - began
        disk = sum(path.stat().st_size for path in Path(scratch).rglob("*") if path.is_file())
        queries = column(folder / "pairs.parquet", "query" if system == "lucene" else "words")
        asked = list(queries)[:most]
        own = [number == position for position, number in enumerate(first(search(asked[:WARM])))]
        began = time.perf_counter()
        search(asked)
        seconds = time.perf_counter() - began
    return {
        "build": build, "queries": len(asked), "seconds": seconds, "disk": disk, "own first": sum(own) / len(own)
    }  # fmt: skip


def column(path: Path, name: str) -> Iterator[str]:
    with pq.ParquetFile(path) as parquet:
        for batch in parquet.iter_batches(10_000, columns=[name]):
            yield from batch.column(0).to_pylist()


def by_tantivy(folder: Path, scratch: Path) -> Search:
    import tantivy

    schema = tantivy.SchemaBuilder()
    schema.add_text_field("text", tokenizer_name="whitespace", index_option="freq")
    schema.add_unsigned_field("number", fast=True)
    index = tantivy.Index(schema.build(), str(scratch))
    writer = index.writer(1_000_000_000, num_threads=THREADS)
    for number, words in enumerate(column(folder / "docs.parquet", "words")):
        document = tantivy.Document()
        document.add_text("text", words)
        document.add_unsigned("number", number)
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher, pool = index.searcher(), ThreadPoolExecutor(THREADS)

    def one(query: str) -> Sequence[int]:
        hits = searcher.search(index.parse_query(query, ["text"]), BEST, count=False).hits
        numbers: Sequence[int] = searcher.fast_field_values("number", [address for _, address in hits])
        return numbers

    return Search(lambda queries: list(pool.map(one, queries)), lambda found: [numbers[0] for numbers in found])


def by_lucene(folder: Path, scratch: Path) -> Search:
    """Anserini's indexing and SimpleSearcher, which pyserini's classes wrap; no hit is handed to Python."""
    autoclass = java()
    options = {"collection": "JsonCollection", "generator": "DefaultLuceneDocumentGenerator", "threads": THREADS}
    options |= {"input": folder / "lucene", "index": scratch}
    given = [text for name, value in options.items() for text in (f"-{name}", str(value))]
    autoclass("io.anserini.index.IndexCollection").main(given)
    searcher, lists = autoclass("io.anserini.search.SimpleSearcher")(str(scratch)), autoclass("java.util.ArrayList")

    def search(queries: Sequence[str]) -> Any:
        asked, names = lists(), lists()
        for number, query in enumerate(queries):
            asked.add(query)
            names.add(str(number))
        return searcher.batch_search(asked, names, BEST, THREADS)

    def first(found: Any) -> list[int]:
        return [int(found.get(str(number))[0].docid) for number in range(found.size())]

    return Search(search, first)


def java() -> Any:
    """What gives Java's classes, of pyserini's wheel in the JDK of another, with the JVM's own defaults."""
    import jnius_config

    home, jvm, jar = installed()
    os.environ.update(JAVA_HOME=str(home), JVM_PATH=str(jvm))
    jnius_config.set_classpath(str(jar))
    from jnius import autoclass

    return autoclass


def write_json_lines(folder: Path) -> None:
    """The documents as Anserini reads them, unless they are there, in files enough for two threads."""
    if (folder / "lucene").exists():
        return
    beside = Path(tempfile.mkdtemp(dir=folder))
    with ExitStack() as opened:
        files = [opened.enter_context((beside / f"{number}.jsonl").open("w", encoding="utf-8")) for number in range(8)]
        for number, text in enumerate(column(folder / "docs.parquet", "text")):
            files[number % len(files)].write(json.dumps({"id": str(number), "contents": text}) + "\n")
    beside.rename(folder / "lucene")


def by_bm25s(folder: Path, _: Path) -> Search:
    import bm25s

    def cut(texts: list[str]) -> Any:
        return bm25s.tokenize(texts, stopwords=None, token_pattern=r"\S+", show_progress=False)  # noqa: S106 - of words

    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend="numba")
    index.index(cut(list(column(folder / "docs.parquet", "words"))), show_progress=False)

    def search(queries: Sequence[str]) -> Any:
        return index.retrieve(cut(list(queries)), k=BEST, n_threads=THREADS, show_progress=False)

    return Search(search, lambda found: found.documents[:, 0].tolist())


def by_rank_bm25(folder: Path, _: Path) -> Search:
    from rank_bm25 import BM25Okapi

    index = BM25Okapi([words.split() for words in column(folder / "docs.parquet", "words")])
    numbers = range(index.corpus_size)

    def search(queries: Sequence[str]) -> Any:
        return [index.get_top_n(query.split(), numbers, BEST) for query in queries]

    return Search(search, lambda found: [best[0] for best in found])


PEERS: dict[str, Callable[[Path, Path], Search]] = {
    "tantivy": by_tantivy, "lucene": by_lucene, "bm25s": by_bm25s, "rank_bm25": by_rank_bm25
}  # fmt: skip


def mine_by_embedder(folder: Path, most: int) -> dict[str, Any]:
    """sentence-transformers' own mining: all documents and queries embedded and compared, 7 of the best 100 taken."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    from pipeline.embedders.bundled import folder as model_folder

    torch.set_num_threads(THREADS)
    model = SentenceTransformer(str(model_folder()), device="cpu")
    names = ("query", "positive")
    pairs = Dataset.from_dict({name: list(column(folder / "pairs.parquet", name))[:most] for name in names})
    corpus = list(column(folder / "docs.parquet", "text"))
    began = time.perf_counter()
    mine_hard_negatives(
        pairs, model, corpus=corpus, range_max=BEST, num_negatives=7, output_format="n-tuple", verbose=False
    )
    return {"queries": len(pairs), "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    main()
