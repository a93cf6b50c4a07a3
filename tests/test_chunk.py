from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.rows import Document, Passage, Reject, Row
from pipeline.segmentation import words
from pipeline.stages.chunk import Chunk, Sentences

# Scripts with and without blanks, marks, emoji beyond the basic plane, quotes, and every kind of blank.
LETTERS = "abÇДع中あกကក๑1é\u0301\u200c😀𐍈𠮷"
TEXTS = st.text(st.sampled_from([*LETTERS, *" \n\t\u3000\u00a0.!?。؟।…,\"'«»“”()[]¿¡-—"]), max_size=200)
TAGS = st.sampled_from(["en", "th", "lo", "zh", "ja", "ar", "hi", "de", "my", "km"])


def document(text: str, tag: str = "en") -> Document:
    return Document("d", text, "Title", tag)


def cut(stage: Chunk | Sentences, row: Row) -> tuple[list[Passage], list[Reject]]:
    rows = list(stage.rows(row))
    return [row for row in rows if isinstance(row, Passage)], [row for row in rows if isinstance(row, Reject)]


def chunk(text: str, **fields: Any) -> list[str]:
    return [passage.text for passage in cut(Chunk(input="docs", **fields), document(text))[0]]


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    size = draw(st.integers(1, 12))
    return Chunk(input="docs", words=size, stride=draw(st.integers(1, size)), min_words=draw(st.integers(0, size)))


@given(TEXTS, chunks())
def test_windows_hold_every_word_and_character_of_a_document_in_order(text: str, stage: Chunk) -> None:
    passages, rejects = cut(stage, document(text))
    count = len(words(text))
    if count < max(stage.min_words, 1):
        assert (passages, [reject.reason for reject in rejects]) == ([], ["too_short"])
        return
    assert not rejects
    held = {index for passage in passages for index in range(passage.start, passage.end)}
    assert all(index in held for index, character in enumerate(text) if not character.isspace())
    assert all(any(p.start <= start and end <= p.end for p in passages) for start, end in words(text))
    assert [p.start for p in passages] == sorted({p.start for p in passages})


@given(TEXTS, chunks())
def test_a_passage_is_the_exact_slice_of_its_document_without_blanks_around_it(text: str, stage: Chunk) -> None:
    for passage in cut(stage, document(text))[0]:
        assert passage.text == text[passage.start : passage.end] == passage.text.strip()


@given(TEXTS, chunks())
def test_a_window_has_the_words_asked_for_and_only_the_last_differs(text: str, stage: Chunk) -> None:
    spans = words(text)
    passages, _ = cut(stage, document(text))
    counts = [sum(p.start <= start < p.end for start, _ in spans) for p in passages]
    assert all(count == stage.words for count in counts[:-1])
    assert all(stage.min_words <= count < stage.words + max(stage.min_words, 1) for count in counts[-1:])


def test_windows_overlap_by_words_less_stride() -> None:
    assert chunk("a b c d e f g", words=4, stride=2, min_words=1) == ["a b c d", "c d e f", "e f g"]


def test_a_short_last_window_joins_the_one_before() -> None:
    assert chunk("a b c d e f g", words=3, stride=3, min_words=2) == ["a b c", "d e f g"]


def test_punctuation_and_line_breaks_stay_with_the_words_they_belong_to() -> None:
    text = "“One two,\nthree.” (Four five) $6 — ¿seven?"
    assert chunk(text, words=3, stride=3, min_words=1) == ["“One two,\nthree.”", "(Four five) $6 —", "¿seven?"]


def test_chinese_is_cut_between_words_too() -> None:
    text = "我们都是人。「他们也是人」。"
    first, *rest = chunk(text, words=3, stride=3, min_words=0)
    assert first == "我们都是人。"
    assert rest[0].startswith("「")


@pytest.mark.parametrize("text", ["", " \n", "?! …", "only three words"])
def test_a_document_of_too_few_words_is_rejected(text: str) -> None:
    passages, rejects = cut(Chunk(input="docs"), document(text))
    assert not passages
    assert [(reject.row_id, reject.reason) for reject in rejects] == [("d", "too_short")]


def test_a_passage_carries_title_language_and_an_id_of_its_own() -> None:
    first, second = cut(
        Chunk(input="docs", words=2, stride=2, min_words=1), Document("d", "the the the the", "T", "sw")
    )[0]
    assert (first.text, first.title, first.language, first.doc_id) == (second.text, "T", "sw", "d")
    assert first.passage_id != second.passage_id


@pytest.mark.parametrize(
    "fields", [{"words": 5, "stride": 6, "min_words": 0}, {"words": 5, "stride": 5, "min_words": 6}, {"words": 0}]
)
def test_windows_that_would_lose_words_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Chunk(input="docs", **fields)


@given(TEXTS, TAGS)
def test_sentences_and_their_rejects_hold_every_character_once(text: str, tag: str) -> None:
    passages, rejects = cut(Sentences(input="docs", min_words=0, max_words=1_000), document(text, tag))
    if not text.strip():
        assert [(reject.row_id, reject.reason) for reject in rejects] == [("d", "no_sentences")]
        return
    assert not rejects
    assert all(one.end <= following.start for one, following in pairwise(passages))
    assert "".join("".join(p.text for p in passages).split()) == "".join(text.split())
    assert all(p.text == text[p.start : p.end] for p in passages)


def test_sentences_outside_the_bounds_are_rejected_one_by_one() -> None:
    text = "Too short. This one has just the right length. This one goes on and on and on and on and on for too long."
    passages, rejects = cut(Sentences(input="docs", min_words=4, max_words=10), document(text))
    assert [passage.text for passage in passages] == ["This one has just the right length."]
    assert [reject.reason for reject in rejects] == ["sentence_too_short", "sentence_too_long"]
    assert len({row.row_id for row in [*passages, *rejects]}) == 3


def test_a_sentence_of_a_passage_has_its_place_in_the_document() -> None:
    text = "One two three four. Five six seven eight! Nine ten eleven twelve?"
    _, passage, _ = cut(Chunk(input="docs", words=4, stride=4, min_words=4), document(text))[0]
    (sentence,), _ = cut(Sentences(input="passages", min_words=1), passage)
    assert sentence.text == text[sentence.start : sentence.end] == "Five six seven eight!"
    assert sentence.doc_id == "d"
    assert sentence in cut(Sentences(input="docs", min_words=1), document(text))[0]


def test_bounds_that_keep_no_sentence_are_refused() -> None:
    with pytest.raises(ValidationError, match="at most max_words"):
        Sentences(input="docs", min_words=9, max_words=8)
