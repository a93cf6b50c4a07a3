"""The semantic axis by a cross-encoder, which reads query and passage together: slower than an embedder, and more often right."""

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from pipeline.embedders.base import Embedder, encodable
from pipeline.embedders.model import ModelEmbedder
from pipeline.engines.base import EngineError, MissingExtra
from pipeline.rows import Pair
from pipeline.stages.calibration import rounded
from pipeline.stages.guards.base import Candidate, Judge, Verdict
from pipeline.stages.guards.margins import Margins

_BATCH = 32

Asked: TypeAlias = tuple[str, str]
"""A query and a text."""
Rank: TypeAlias = Callable[[Iterable[Asked]], dict[Asked, float]]
"""Queries with texts to how surely each text answers its query, from 0 to 1."""


class Reranker(Margins):
    """Bounds on how surely a negative answers the query, as a share of how surely the positive does.

    `model` is a cross-encoder with one score, which the library sentence-transformers loads from a local folder or from a
    hub name at a pinned revision. Its score is brought between 0 and 1 by the logistic function, whatever else the model's
    own settings ask for: a share of a score that may be negative means nothing. A text longer than the model's window is cut
    at its end. Beside other texts in a batch a score comes out the same to rounding.

    Reasons: answers_too_well, answers_too_little, positive_unrelated.
    """

    kind: Literal["reranker"] = "reranker"
    near: ClassVar[str] = "answers_too_well"
    far: ClassVar[str] = "answers_too_little"

    model: str
    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")

    @model_validator(mode="after")
    def _findable(self) -> "Reranker":
        if self.model.startswith("bundled:"):
            raise ValueError(
                f"model: {self.model!r} is no cross-encoder; none is bundled, so name a folder or a hub model"
            )
        if self.revision is None and self._cross_encoder.folder() is None:
            raise ValueError(
                f"revision: {self.model!r} is no folder here, so it is taken for a hub name, and a hub name needs the "
                "40-digit commit that pins it"
            )
        return self

    @property
    def _cross_encoder(self) -> "CrossEncoder":
        return CrossEncoder.model_construct(model=self.model, revision=self.revision)

    def embedders(self) -> tuple[Embedder, ...]:
        return (self._cross_encoder,)

    def open(self, folder: Path) -> Judge:  # noqa: ARG002 - it builds nothing
        rank = self._cross_encoder.open_ranking()

        def judge(pairs: Sequence[Pair], candidates: Sequence[Sequence[Candidate]]) -> list[list[Verdict]]:
            asked = [
                [(pair.query, text) for text in (pair.positive, *(one.text for one in given))]
                for pair, given in zip(pairs, candidates, strict=True)
            ]
            score = rank(one for of_pair in asked for one in of_pair)
            return [[self.verdict(score[own], score[other]) for other in others] for own, *others in asked]

        return judge


class CrossEncoder(ModelEmbedder):
    """The model behind a reranker. It is found, pinned and counted as embedders are, and gives scores, not vectors."""

    wants_gpu: ClassVar[bool] = True

    def check(self) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingExtra("sentence-transformers", "sentence-transformers")
        super().check()

    def open_ranking(self) -> Rank:
        """Raises MissingExtra where the library is not installed, EngineError where the model cannot be loaded or used."""
        self.check()
        model = self._model()

        def rank(asked: Iterable[Asked]) -> dict[Asked, float]:
            from torch.nn import Sigmoid

            # Texts of like length fill a batch without waste.
            distinct = sorted(dict.fromkeys(asked), key=lambda one: len(one[0]) + len(one[1]))
            found = model.predict(
                [(encodable(query), encodable(text)) for query, text in distinct],
                batch_size=_BATCH, activation_fn=Sigmoid(), show_progress_bar=False, convert_to_numpy=True,
            ) if distinct else ()  # fmt: skip
            return {one: rounded(float(score)) for one, score in zip(distinct, found, strict=True)}

        return rank

    def _model(self) -> Any:
        self.stay_offline()
        from sentence_transformers import CrossEncoder as Library

        try:
            model = Library(self.source(), revision=self.revision, local_files_only=self.is_here)
        except (OSError, RuntimeError, ValueError) as cause:
            raise EngineError(
                f"{self.model}: sentence-transformers did not load it as a cross-encoder: {cause}"
            ) from cause
        if model.num_labels != 1:
            raise EngineError(f"{self.model}: gives {model.num_labels} scores a pair; a reranker gives one")
        return model
