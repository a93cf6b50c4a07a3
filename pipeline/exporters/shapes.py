r"""From examples to the rows of each trainer, a table at a time.

In every shape but `tuples` and `ms_swift_reranker`, which hold the instruction by itself, the query is the whole instructed
query ("Instruct: …\nQuery:…"): each trainer has a way of its own to join an instruction to a query, and most join it
wrongly or leave it out. Documents are bare. Negatives come hardest first. A column that a trainer does not read is not
written, since what it does with one differs from trainer to trainer. docs/formats.md tells what each of them does.
"""

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.exporters.texts import column, every, firsts, in_lists, instructed, structs
from pipeline.rows import Example

BEST_LABEL = 5.0
LEAST_POSITIVE = 4.0
"""A pair whose label is lower was asked to differ in meaning: its second text is no positive."""


def tuples(examples: pa.Table, negatives: int) -> pa.Table:
    """instruction, query, positive, negative_1 … negative_N, then all else that an example has; maps are JSON."""
    first = {name: column(examples, name) for name in ("instruction", "query", "positive")}
    others = {name: _plain(examples, name) for name in Example.schema.names if name not in {*first, "negatives"}}
    return pa.table(first | _numbered(examples, negatives) | others)


def _plain(examples: pa.Table, name: str) -> pa.Array:
    values = column(examples, name)
    if pa.types.is_list(values.type) and values.null_count:
        return pc.if_else(values.is_null(), pa.scalar([], values.type), values)
    if not pa.types.is_map(values.type):
        return values
    return pa.array([_json(dict(pairs or ())) for pairs in values.to_pylist()], pa.string())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _numbered(examples: pa.Table, count: int) -> dict[str, pa.Array]:
    texts = firsts(examples, "negatives", count)
    return {f"negative_{place + 1}": every(texts, place, count) for place in range(count)}


def pair(examples: pa.Table, negatives: int) -> pa.Table:  # noqa: ARG001 - it has none
    """anchor, positive."""
    return pa.table({"anchor": instructed(examples), "positive": column(examples, "positive")})


def triplet(examples: pa.Table, negatives: int) -> pa.Table:
    """anchor, positive, negative: the hardest one."""
    hardest = every(firsts(examples, "negatives", negatives), 0, negatives)
    return pair(examples, 0).append_column("negative", hardest)


def triplet_n(examples: pa.Table, negatives: int) -> pa.Table:
    """anchor, positive, negative_1 … negative_N."""
    given = {"anchor": instructed(examples), "positive": column(examples, "positive")}
    return pa.table(given | _numbered(examples, negatives))


def scored(examples: pa.Table, negatives: int) -> pa.Table:  # noqa: ARG001 - it has none
    """sentence1, sentence2, and how near they are, 1 for the same meaning. The first is the query."""
    score = pc.divide(column(examples, "label"), BEST_LABEL)
    return pa.table({"sentence1": instructed(examples), "sentence2": column(examples, "positive"), "score": score})


def with_ids(examples: pa.Table, shaped: pa.Table, *, batches: bool) -> pa.Table:
    """A shape with the pair's id, and the number of its batch where batches were planned, before it."""
    known = {"id": "pair_id"} | ({"batch": "batch"} if batches else {})
    first = {name: column(examples, source) for name, source in known.items()}
    return pa.table(first | {name: column(shaped, name) for name in shaped.column_names})


def ms_swift(examples: pa.Table, negatives: int) -> pa.Table:
    """messages, positive_messages, negative_messages, as `--task_type embedding` reads them.

    There is no `label`: its InfoNCE finds where a row begins by the labels that are not 0, and takes 1 for one that is left out.
    """
    rows = len(examples)
    documents = {"positive_messages": in_lists(_messages(column(examples, "positive"), "user"), 1, rows)}
    if negatives:
        mined = _messages(firsts(examples, "negatives", negatives), "user")
        documents["negative_messages"] = in_lists(mined, negatives, rows)
    return pa.table({"messages": _messages(instructed(examples), "user")} | documents)


def ms_swift_reranker(examples: pa.Table, negatives: int) -> pa.Table:
    """The same for `--task_type reranker`: documents answer, and the instruction is a system message.

    Its template for Qwen3-Reranker writes the instruction, the query and the document into one prompt, so the query is bare.
    """
    rows = len(examples)
    positives = _messages(column(examples, "positive"), "assistant")
    mined = _messages(firsts(examples, "negatives", negatives), "assistant")
    return pa.table(
        {
            "messages": _asked(examples),
            "positive_messages": in_lists(positives, 1, rows),
            "negative_messages": in_lists(mined, negatives, rows),
        }
    )


def _messages(texts: pa.Array, role: str) -> pa.Array:
    """Conversations of one message."""
    return in_lists(_message(texts, role), 1, len(texts))


def _message(texts: pa.Array, role: str) -> pa.Array:
    return structs([("role", pa.repeat(role, len(texts))), ("content", texts)])


def _asked(examples: pa.Table) -> pa.Array:
    """Conversations that begin with the instruction, where there is one."""
    instruction, query = (column(examples, name).to_pylist() for name in ("instruction", "query"))
    conversations = [
        [*([{"role": "system", "content": told}] if told.strip() else []), {"role": "user", "content": asked}]
        for told, asked in zip(instruction, query, strict=True)
    ]
    return pa.array(conversations, pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))


def flag_embedding(examples: pa.Table, negatives: int) -> pa.Table:
    """query, pos, neg, prompt.

    FlagEmbedding joins a prompt to the query only where it is told to, so the query holds its instruction, and the prompt is
    empty: told or not, the model sees the same bytes. Without `type` no batch is halved.
    """
    rows = len(examples)
    return pa.table(
        {
            "query": instructed(examples),
            "pos": in_lists(column(examples, "positive"), 1, rows),
            "neg": in_lists(firsts(examples, "negatives", negatives), negatives, rows),
            "prompt": pa.repeat("", rows),
        }
    )


def tevatron(examples: pa.Table, negatives: int) -> pa.Table:
    """query_id, query, positive_passages, negative_passages. A passage has no title: an empty one becomes a leading blank."""
    rows = len(examples)
    ids, texts = firsts(examples, "negative_ids", negatives), firsts(examples, "negatives", negatives)
    positives = structs([("docid", column(examples, "positive_id")), ("text", column(examples, "positive"))])
    mined = structs([("docid", pc.fill_null(ids, "")), ("text", texts)])
    return pa.table(
        {
            "query_id": column(examples, "pair_id"),
            "query": instructed(examples),
            "positive_passages": in_lists(positives, 1, rows),
            "negative_passages": in_lists(mined, negatives, rows),
        }
    )


def nemo(examples: pa.Table, negatives: int) -> pa.Table:
    """question_id, question, pos_doc, neg_doc, the texts themselves."""
    rows = len(examples)
    return pa.table(
        {
            "question_id": column(examples, "pair_id"),
            "question": instructed(examples),
            "pos_doc": in_lists(column(examples, "positive"), 1, rows),
            "neg_doc": in_lists(firsts(examples, "negatives", negatives), negatives, rows),
        }
    )
