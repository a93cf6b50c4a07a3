"""The loss that Qwen3-Embedding was trained with: InfoNCE of five terms, in several sizes of the vector at once.

Over the sum of a query stand its positive, its hard negatives, the documents of the other rows, their queries, and those
documents against its positive (Zhang et al. 2025, arXiv 2506.05176). sentence-transformers says this by directions; one
direction alone is the plain InfoNCE of most trainers.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

Terms = Literal["five", "one"]
DIRECTIONS: Mapping[Terms, tuple[str, ...]] = MappingProxyType(
    {"five": ("query_to_doc", "query_to_query", "doc_to_doc"), "one": ("query_to_doc",)}
)
EQUAL = 1 - 1e-5
"""Two documents whose cosine is this are the same text: the right answer of one row is no wrong answer of another."""


class Objective(NamedTuple):
    """What is made small; cosines are multiplied by `scale`, 1 over the temperature.

    `dims` are the sizes of Matryoshka (Kusupati et al. 2022), none for whole vectors alone. With a `margin`, what is nearer
    to the query than its positive by more than that is taken for a false negative and left out, and so is what is the
    positive. `mini_batch` embeds so many rows at a time, which saves memory and knows no margin.
    """

    terms: Terms = "five"
    dims: Sequence[int] = ()
    scale: float = 20.0
    margin: float | None = 0.1
    mini_batch: int | None = None


def check(of: Objective, size: int) -> None:
    """Raises ValueError for what no model, or none whose vectors have `size` numbers, can be trained with."""
    if of.mini_batch is not None and of.margin is not None:
        raise ValueError(
            f"--mini-batch {of.mini_batch} cannot leave out what --margin {of.margin:g} does: say --margin none as well"
        )
    if of.mini_batch is not None and of.mini_batch < 1:
        raise ValueError(f"--mini-batch {of.mini_batch}: give 1 row or more")
    if any(not 0 < dim <= size for dim in of.dims):
        raise ValueError(f"--dims {' '.join(map(str, of.dims))}: the model's vectors have {size} numbers")


def loss(model: Any, of: Objective) -> Any:
    """A loss for sentence-transformers' trainer."""
    from sentence_transformers.sentence_transformer import losses

    asked = {"scale": of.scale, "directions": DIRECTIONS[of.terms], "partition_mode": "joint"}
    if of.mini_batch:
        found = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=of.mini_batch, **asked)
    elif of.margin is None:
        found = losses.MultipleNegativesRankingLoss(model, **asked)
    else:
        found = _masked(model, of.margin, **asked)
    return losses.MatryoshkaLoss(model, found, matryoshka_dims=list(of.dims)) if of.dims else found


def _masked(model: Any, margin: float, **asked: Any) -> Any:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    class Masked(MultipleNegativesRankingLoss):  # type: ignore[misc]  # the library has no types
        """The same, without what looks like a false negative to the model that is trained."""

        def compute_loss_from_embeddings(self, embeddings: list[Any], labels: Any) -> Any:  # noqa: ARG002 - the name that the library calls it by
            return masked_info_nce(embeddings, self.directions, self.scale, margin)

    return Masked(model, **asked)


def masked_info_nce(embeddings: Sequence[Any], directions: Sequence[str], scale: float, margin: float) -> Any:
    """The mean over rows, given a matrix of queries, one of positives, and any number of negatives, row by row."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    queries, positives, *_ = columns = [normalize(one.float(), dim=1) for one in embeddings]
    documents, rows = torch.cat(columns[1:]), torch.arange(len(queries), device=queries.device)
    own = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
    ours = own.repeat(1, len(columns) - 1)
    scores = {
        "query_to_doc": queries @ documents.T,
        "query_to_query": queries @ queries.T,
        "doc_to_doc": positives @ documents.T,
    }
    with torch.no_grad():
        most = scores["query_to_doc"].gather(1, rows[:, None]) + margin
        barred = {name: score > most for name, score in scores.items()}
        same = scores["doc_to_doc"] >= EQUAL
        barred["query_to_query"] |= own
        barred["doc_to_doc"] |= ours | same
        barred["query_to_doc"] |= same
        # The positive itself stays, whatever it is equal to.
        barred["query_to_doc"][rows, rows] = False
    left = [scores[name].masked_fill(barred[name], -torch.inf) * scale for name in directions]
    return cross_entropy(torch.cat(left, dim=1), rows)
