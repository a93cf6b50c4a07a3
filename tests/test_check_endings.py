from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.rows import TASKS, Pair, Task, to_table
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Judge
from pipeline.stages.checks.endings import CutOff


@dataclass
class Rows:
    """A dataset of two parts."""

    pairs: Sequence[Pair]

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        middle = len(self.pairs) // 2
        for part in (self.pairs[:middle], self.pairs[middle:]):
            yield to_table(Pair, part).select(list(columns))


def query(text: str, tag: str = "en", passage: str = "passage-1") -> Pair:
    return Pair("pair-1", "retrieval", "", text, tag, "A passage.", passage, "en", passage, "doc-1")


def twin(sentence: str, text: str, tag: str = "en", task: Task = "bitext") -> Pair:
    return Pair("pair-1", task, "", sentence, "en", text, "seed-1", tag, "seed-1", "doc-1")


def opened(folder: Path, pairs: Sequence[Pair] = (), check: CutOff | None = None) -> Judge:
    """The judge of a build of these pairs."""
    context = Context({"input": cast("Any", Rows(pairs))}, {}, {}, folder)
    check = check or CutOff(min_rows=10)
    check.build(context)
    return check.open(context)


def queries(marked: int, bare: int, tag: str = "en") -> list[Pair]:
    """Each with a passage of its own."""
    texts = ["Who built the pier?"] * marked + ["who built the pier"] * bare
    return [query(text, tag, f"{tag}-{number}") for number, text in enumerate(texts)]


def reason(judge: Judge, pair: Pair) -> str | None:
    return (fault := judge(pair)) and fault.reason


@pytest.mark.parametrize(
    ("text", "is_cut"),
    [
        ("Who built the pier (and when?", True),
        ('Who wrote "The Pier?', True),
        ("Who wrote “The Pier", True),
        ("谁写了《码头", True),
        ("¿Quién construyó el muelle", True),
        ("¿Quién (y cuándo construyó el muelle?", True),
        ("¡¿Quién construyó el muelle?", True),
        ("¿Quién dijo «el muelle?", True),
        ("Who built the pier,", True),
        ("码头在哪里、", True),
        ("Who built the well-", True),
        ("Who wrote the following:", True),
        ("Who built the pier („", True),
        ("Who wrote “The Pier”?", False),
        ("Wer schrieb „Der Steg“", False),
        ("Hvem skrev »Broen«", False),
        ('Who wrote the so-called “Pier"?', False),
        ('Which 12" guns stood on the pier?', False),
        ("Who sings :( on the pier", False),
        ("my pier broke :(", False),
        ("Was kostet Disney+", False),
        ("how to learn C++", False),
        ("what is C#", False),
        ("/etc/nginx/conf.d/", False),
        ("who owns https://pier.ie/", False),
        ("5+5=", False),
        ("the pier + ", True),
        ("pier or /", True),
        ("a) who built it", False),
        ("¡Qué muelle!", False),
        ('מי פיקד על צה"ל', False),
        ('谁写了"码头"。', False),
        ("pier in Galway", False),
        ("", False),
    ],
)
def test_what_is_left_open_is_cut_off_without_any_habit(tmp_path: Path, text: str, is_cut: bool) -> None:
    assert (reason(opened(tmp_path), query(text)) == "cut_off") == is_cut


def test_a_twin_may_leave_open_what_its_sentence_does(tmp_path: Path) -> None:
    judge = opened(tmp_path)
    assert reason(judge, twin('He said: "Go.', "Er sagte: „Geh.", "de")) is None
    assert reason(judge, twin('He said: "Go."', "Er sagte: „Geh.", "de")) == "cut_off"
    assert reason(judge, twin("As follows:", "Wie folgt:", "de")) is None


def test_a_query_without_a_mark_is_cut_off_where_others_have_one(tmp_path: Path) -> None:
    judge = opened(tmp_path, queries(95, 5))
    fault = judge(query("Who built the"))
    assert fault is not None
    assert (fault.reason, fault.score, fault.threshold) == ("cut_off", 0.95, 0.9)
    assert "95.0%" in fault.detail
    assert judge(query("Who built the pier? ")) is None
    assert judge(query("Who built “the pier?”")) is None


@pytest.mark.parametrize(("marked", "bare"), [(80, 20), (0, 100), (9, 0)])
def test_where_a_mark_is_no_habit_or_there_are_too_few_rows_none_is_judged(
    tmp_path: Path, marked: int, bare: int
) -> None:
    assert opened(tmp_path, queries(marked, bare))(query("who built the")) is None


def test_a_language_has_its_own_habit_and_one_with_few_rows_that_of_its_script(tmp_path: Path) -> None:
    pairs = [*queries(100, 0, "en"), *queries(5, 0, "fr"), *queries(5, 95, "th"), *queries(2, 0, "ru")]
    judge = opened(tmp_path, pairs)
    bare = "who built the"
    assert [reason(judge, query(bare, tag)) for tag in ("en", "fr", "th", "ru")] == ["cut_off", "cut_off", None, None]


def test_a_passage_whose_queries_go_without_marks_has_a_habit_of_its_own(tmp_path: Path) -> None:
    own = [query("who built the pier", passage="terse") for _ in range(3)]
    mixed = [query(text, passage="mixed") for text in ("Who?", "Why?", "Where?", "who built")]
    # One of them in the first part of the build, the others in the second.
    judge = opened(tmp_path, [own[0], *queries(94, 0), *own[1:], *mixed])
    assert judge(own[0]) is None
    assert reason(judge, mixed[-1]) == "cut_off"


def test_a_translation_is_held_to_the_mark_of_its_sentence(tmp_path: Path) -> None:
    good = [twin("The pier is old.", "Der Steg ist alt.", "de")] * 20
    thai = [twin("The pier is old.", "ท่าเรือเก่า", "th")] * 20
    judge = opened(tmp_path, [*good, *thai])
    assert reason(judge, twin("The pier is old.", "Der Steg", "de")) == "cut_off"
    assert reason(judge, twin("The old pier", "Der alte Steg", "de")) is None
    assert reason(judge, twin("The pier is old.", "ท่าเรือ", "th")) is None


def test_paraphrases_of_people_who_do_without_are_not_judged(tmp_path: Path) -> None:
    pairs = [twin("The pier is old.", "The pier is aged.", task="similarity")] * 92
    pairs += [twin("The pier is old.", "an aged pier", task="similarity")] * 8
    assert opened(tmp_path, pairs)(pairs[-1]) is None
    assert reason(opened(tmp_path, pairs, CutOff(min_rows=10, twin_share=0.9)), pairs[-1]) == "cut_off"


def test_a_build_of_no_rows_judges_by_what_is_left_open(tmp_path: Path) -> None:
    judge = opened(tmp_path)
    assert judge(query("who built")) is None


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=12),
    st.sampled_from(TASKS),
)
def test_the_build_counts_as_the_judge_reads(tmp_path: Path, texts: list[str], task: Task) -> None:
    ends = ["Is it? ", "Is it?\u200b\n", "Sí.»", "好。」", "Ναι;"]
    pairs = [replace(query(text), task=task, positive=text) for text in [*ends * 10, *texts]]
    check = CutOff(min_rows=1, query_share=1.0, twin_share=1.0)
    judge = opened(tmp_path, pairs, check)
    missed = [pair for pair in pairs if (fault := judge(pair)) and fault.score is not None]
    assert not missed, "where the habit holds for all, none is without its mark"


@given(st.text(st.characters(), max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    assert reason(CutOff().open(Context({}, {}, {}, Path("nowhere"))), query(text)) in {None, "cut_off"}
