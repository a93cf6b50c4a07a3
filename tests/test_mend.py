"""Mend: what a machine broke is repaired and counted; what an author wrote stays as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rows import Document, Note, Pair, Passage, Row
from pipeline.stages.mend import Mend

BROKEN, WHOLE = "Le cafÃ© &amp; la lampe\x07", "Le café & la lampe"


def mended(row: Row) -> list[object]:
    return list(Mend(input="rows").rows(row))


@pytest.mark.parametrize(
    ("row", "repaired"),
    [
        (Document("d1", BROKEN, BROKEN, "fr"), Document("d1", WHOLE, WHOLE, "fr")),
        (Passage("p1", "d1", BROKEN, None, "fr", 3, 27), Passage("p1", "d1", WHOLE, None, "fr", 3, 27)),
        (
            Pair("x", "retrieval", "i", BROKEN, "fr", BROKEN, "s", "fr", "s", "d", written_negatives=[BROKEN, "ok"]),
            Pair("x", "retrieval", "i", WHOLE, "fr", WHOLE, "s", "fr", "s", "d", written_negatives=[WHOLE, "ok"]),
        ),
    ],
)
def test_every_text_of_a_row_is_mended_and_the_row_counted(row: Row, repaired: Row) -> None:
    assert mended(row) == [repaired, Note("mended")]


@pytest.mark.parametrize(
    "text", ["“ﬁne” quotes, ＷＩＤＥ letters", "l’huile…", "一行\n二行\r\n", "R&D at AT&T", "oil", ""]
)
def test_what_is_the_authors_stays_and_is_not_counted(text: str) -> None:
    row = Document("d1", text, None, "en")
    assert mended(row) == [row]


def test_it_gives_what_it_takes() -> None:
    for row_type in (Pair, Passage, Document):
        assert Mend(input="rows").gives({"input": row_type}) is row_type


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_any_text_can_be_mended(text: str) -> None:
    row, *notes = mended(Document("d1", text, None, "en"))
    assert isinstance(row, Document)
    assert notes == ([] if row.text == text else [Note("mended")])
