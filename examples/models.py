"""Starting models: any that sentence-transformers loads, or a decoder that is to become an embedding model.

A decoder reads from left to right, so its last token alone has seen the whole text; Qwen3-Embedding takes the vector there, at
an end-of-sequence token behind every text.
"""

from collections.abc import Mapping
from typing import Any, Literal

Pooling = Literal["own", "mean", "last"]


def start(name: str, pooling: Pooling = "own", max_length: int | None = None) -> Any:
    """A SentenceTransformer of a model's name or folder. `own` pools as the model itself says."""
    import torch
    from sentence_transformers import SentenceTransformer

    # Weights kept in bfloat16 round small updates away; a GPU computes in bfloat16 all the same.
    precise = {"dtype": torch.float32}
    model = SentenceTransformer(name, model_kwargs=precise) if pooling == "own" else _pooled(name, pooling, precise)
    if max_length:
        model.max_seq_length = max_length
    return model


def _pooled(name: str, pooling: Pooling, precise: Mapping[str, Any]) -> Any:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling as Pool

    transformer = Transformer(name, model_kwargs=dict(precise))
    if pooling == "last":
        ends_in_eos(transformer.tokenizer)
    mode = "lasttoken" if pooling == "last" else "mean"
    pool = Pool(transformer.get_embedding_dimension(), pooling_mode=mode)
    return SentenceTransformer(modules=[transformer, pool, Normalize()])


def ends_in_eos(tokenizer: Any) -> None:
    """Let a tokenizer pad at the left and put its end-of-sequence token behind every text, also one that is cut.

    What it puts before a text stays. Qwen3-Embedding's does all this by itself. Raises ValueError for a tokenizer that has no such token.
    """
    from tokenizers.processors import TemplateProcessing

    tokenizer.padding_side = "left"
    if tokenizer("a")["input_ids"][-1] in tokenizer.all_special_ids:
        return
    end = tokenizer.eos_token
    if end is None:
        raise ValueError(f"{tokenizer.name_or_path}: the tokenizer has no end-of-sequence token to pool at; use mean")
    begin = tokenizer.bos_token if tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id else None
    tokenizer.pad_token = tokenizer.pad_token or end
    # In the tokenizer's own file, so that whoever loads the trained model has it too.
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=" ".join(filter(None, (begin, "$A", end))),
        special_tokens=[(one, tokenizer.convert_tokens_to_ids(one)) for one in {begin, end} if one],
    )
