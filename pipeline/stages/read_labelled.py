"""What all readers of labelled pairs share: what makes a pair of a query and a positive, and from whom it is said to come."""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, NamedTuple

from pydantic import StringConstraints

from pipeline.digest import digest
from pipeline.draws import Tag
from pipeline.rows import Pair, Row, Task
from pipeline.stages.read import LANGUAGE_KEYS, Reader
from pipeline.stages.read_fields import Unfit, Values, language_of
from pipeline.stages.read_texts import Given, Texts
from pipeline.stages.wording import sentence_key

ANSWERS = "answers"
Source = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.\-/]{0,99}$")]
"""What a mix and a card call a source."""


class Side(NamedTuple):
    """One side of a pair: its text, and the values that may say what language it is in."""

    text: str
    values: Values


UNNAMED = "labelled"
"""The source of pairs of which a config names none."""


class Labelled(Reader):
    """Pairs that people wrote or judged.

    `source` is what a mix and a card call them; each reader of a recipe should have its own, since the id of a pair is
    SOURCE/ID where its row brings one, else a digest of source and texts (of the source that none names, the row's id as it is). `query_language` and `positive_language` say what `language` says, of one side each. Where a text comes
    with a title, `title_join` is put between the two, and without it the title is left out: a corpus that is mined has
    none either.
    """

    row_type: ClassVar[type[Row]] = Pair

    instruction: str
    task: Task = "retrieval"
    source: Source = UNNAMED
    title_join: str | None = None
    query_language: Tag | None = None
    positive_language: Tag | None = None

    @property
    def texts(self) -> Texts:
        return Texts(self.max_chars, self.title_join)

    def pair(  # noqa: PLR0913 - what a source may say of a pair
        self,
        query: Side,
        positive: Side,
        *,
        positive_id: str | None = None,
        pair_id: str | None = None,
        negatives: Sequence[str] = (),
        label: float | None = None,
        answers: Sequence[str] = (),
    ) -> Pair:
        """The pair of these two sides. Raises Unfit where they are one, or in a language that is not known."""
        if sentence_key(query.text) == sentence_key(positive.text):
            raise Unfit("positive_is_query", "the positive says what the query says, but for case and punctuation")
        positive_id = positive_id or digest(positive.text)
        return Pair(
            pair_id=pair_id or digest(self.source, self.task, query.text, positive.text),
            task=self.task,
            instruction=self.instruction,
            query=query.text,
            query_language=self._language(query, "query_language", self.query_language),
            positive=positive.text,
            positive_id=positive_id,
            positive_language=self._language(positive, "positive_language", self.positive_language),
            seed_id=positive_id,
            doc_id=positive_id,
            facets={ANSWERS: json.dumps(list(answers), ensure_ascii=False)} if answers else {},
            label=label,
            written_negatives=negatives,
            source=self.source,
        )

    def _language(self, side: Side, key: str, choice: str | None) -> str:
        return language_of(side.values, (key, *LANGUAGE_KEYS), side.text, choice or self.language)


def wrong_ones(given: Sequence[str], right: Sequence[str]) -> tuple[str, ...]:
    """The negatives among some texts: each once, and none that is one of those that are right."""
    barred = {sentence_key(text) for text in right}
    found: dict[str, str] = {}
    for text in given:
        if (key := sentence_key(text)) not in barred:
            found.setdefault(key, text)
    return tuple(found.values())


def fit(texts: Sequence[Given | Unfit]) -> Iterator[str]:
    return (one.text for one in texts if isinstance(one, Given))
