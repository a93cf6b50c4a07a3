"""Each format through its trainer's own code: `datasets`, sentence-transformers, ms-swift, FlagEmbedding.

Tevatron and NeMo AutoModel are no packages that install here; test_formats.py holds their rows against the rules of their loaders.
"""

import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import example
from exporting import ODD, OF_TUPLES, asked, examples, released, rows_of, said, told

from pipeline.exporters.formats import FORMATS
from pipeline.rows import SPLITS, Example

ROWS = [
    example(pair_id="a", query=ODD, positive=ODD + "+", negatives=(ODD + "-", "2020-01-01"), label=5.0, batch=1),
    example(
        pair_id="b", instruction="", query="2020-01-01", positive="12", negatives=("null", "true"), label=4.0, batch=0
    ),
    example(pair_id="c", query="why", positive="กข" * 3000, negatives=("x", "y"), label=2.0),
]
TUPLES = [ROWS[1], ROWS[0]]
"""The tuples among them, in their order."""


@pytest.fixture(scope="module", autouse=True)
def trainers() -> Iterator[None]:
    """The trainers that stand apart from the environment, for these tests alone: see the Makefile."""
    folder = str(Path(sys.prefix) / "trainers")
    sys.path.append(folder)
    yield
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released(ROWS, tmp_path_factory.mktemp("trainers"), formats=[name for name in FORMATS if name != "beir"])


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))


def load(folder: Path, config: str, cache: Path) -> Any:
    """A config of an export, as `datasets` loads it by the files that the card names."""
    import datasets

    (found,) = (one for one in told(folder)["configs"] if one["name"] == config)
    files = {split: [str(folder / file) for file in there["files"]] for split, there in found["splits"].items()}
    kind = "parquet" if files["train"][0].endswith("parquet") else "json"
    return datasets.load_dataset(kind, data_files=files, cache_dir=str(cache))


@pytest.mark.parametrize("config", OF_TUPLES)
def test_datasets_reads_the_rows_that_were_written(built: Path, tmp_path: Path, config: str) -> None:
    loaded = load(built, config, tmp_path)["train"]
    assert [said(config, row) for row in loaded] == [said(config, row) for row in rows_of(built, config)]
    assert list(loaded.column_names) == list(rows_of(built, config)[0])


def test_datasets_reads_every_split(tmp_path: Path) -> None:
    rows = [replace(row, split=SPLITS[number % 3]) for number, row in enumerate(examples(12, label=5.0))]
    folder = released(rows, tmp_path, shard_rows=3, formats=["scored", "nemo"])
    for config in ("scored", "nemo"):
        loaded = load(folder, config, tmp_path / "cache")
        assert {split: loaded[split].num_rows for split in loaded} == {"train": 4, "dev": 4, "test": 4}


def collated(folder: Path, config: str) -> tuple[dict[str, list[str]], list[float] | None]:
    """The texts that sentence-transformers' own collator hands to a model, by column in their order, and the labels."""
    from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator

    seen: list[list[str]] = []

    def preprocess(texts: list[str], **_: Any) -> dict[str, Any]:
        seen.append(texts)
        return {"texts": texts}

    batch = SentenceTransformerDataCollator(preprocess_fn=preprocess)(rows_of(folder, config))
    columns = [name.removesuffix("_texts") for name in batch if name.endswith("_texts")]
    return dict(zip(columns, seen, strict=True)), batch["label"].tolist() if "label" in batch else None


def test_sentence_transformers_takes_the_anchor_first_and_nothing_for_an_id(
    built: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        columns, labels = collated(built, "triplet-2")
        collated(built, "pair")
        collated(built, "triplet")
    assert columns == {
        "anchor": [asked(row) for row in TUPLES],
        "positive": [row.positive for row in TUPLES],
        "negative_1": [row.negatives[0] for row in TUPLES],
        "negative_2": [row.negatives[1] for row in TUPLES],
    }
    assert labels is None
    assert caplog.records == []


def test_sentence_transformers_takes_the_score_for_the_label(built: Path) -> None:
    columns, labels = collated(built, "scored")
    assert list(columns) == ["sentence1", "sentence2"]
    assert labels == pytest.approx([0.8, 1.0, 0.4])


def test_sentence_transformers_would_read_ids_as_text(tmp_path: Path) -> None:
    """Why they stand in configs of their own."""
    folder = released([example()], tmp_path, formats=["pair"], ids=True)
    assert list(collated(folder, "pair-ids")[0]) == ["id", "anchor", "positive"]


def bytes_tokenizer() -> Any:
    """A tokenizer that loses nothing: a token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")


def swift_template(kind: str, task: str) -> Any:
    """ms-swift's own template, ready to train."""
    import torch
    from swift.model import ModelInfo, ModelMeta
    from swift.template import get_template

    processor = bytes_tokenizer()
    processor.model_info = ModelInfo(kind, "none", torch.float32, 1_000_000, None, None, None, task_type=task)
    processor.model_meta = ModelMeta(kind, [], template=kind)
    template = get_template(processor, template_type=kind)
    template.set_mode("train")
    return template


def swift_rows(folder: Path, config: str) -> Any:
    """The rows as ms-swift's own loader and preprocessor hand them on."""
    from swift.dataset import load_dataset

    loaded, _ = load_dataset([str(folder / config / "train-00000-of-00001.jsonl")], strict=True)
    return loaded


def test_ms_swift_encodes_the_query_as_inference_does_and_every_text_whole(built: Path) -> None:
    rows = swift_rows(built, "ms_swift")
    assert len(rows) == len(TUPLES)
    template = swift_template("qwen3_emb", "embedding")
    encoded = [template.encode(dict(row)) for row in rows]
    decoded = [
        [
            template.tokenizer.decode(ids)
            for ids in (one["anchor_input_ids"], one["positive_input_ids"], *one["negative_input_ids"])
        ]
        for one in encoded
    ]
    end = "<|endoftext|>"
    assert decoded == [[text + end for text in (asked(row), row.positive, *row.negatives)] for row in TUPLES]


def test_ms_swift_tells_rows_apart_by_labels_in_a_batch(built: Path) -> None:
    """Its InfoNCE begins a row at every label that is not 0."""
    rows = swift_rows(built, "ms_swift")
    template = swift_template("qwen3_emb", "embedding")
    batch = template.data_collator([template.encode(dict(row)) for row in rows])
    assert batch["labels"].tolist() == [1.0, 0.0, 0.0] * 2
    assert len(batch["input_ids"]) == 4 * 2


def test_ms_swift_writes_the_rerankers_prompt_of_each_document(built: Path) -> None:
    rows = swift_rows(built, "ms_swift_reranker")
    template = swift_template("qwen3_reranker", "generative_reranker")
    for row, source in zip(rows, TUPLES, strict=True):
        encoded = template.encode(dict(row))
        prompts = [template.tokenizer.decode(ids) for ids in encoded["input_ids"]]
        told_of = source.instruction or "Given a web search query, retrieve relevant passages that answer the query"
        for prompt, document in zip(prompts, (source.positive, *source.negatives), strict=True):
            assert f"<Instruct>: {told_of}\n<Query>: {source.query}\n<Document>: {document}" in prompt
        assert encoded["labels"] == [1, 0, 0]


def flag_dataset(folder: Path, cache: Path, **arguments: Any) -> Any:
    """FlagEmbedding's own training set over an export."""
    from FlagEmbedding.abc.finetune import embedder

    files = [str(path) for path in sorted((folder / "flag_embedding").glob("train-*"))]
    fields = {"train_data": files, "cache_path": str(cache), "train_group_size": 3, **arguments}
    return embedder.AbsEmbedderTrainDataset(embedder.AbsEmbedderDataArguments(**fields), None)


@pytest.mark.parametrize("told_to", [{}, {"query_instruction_for_retrieval": "Some instruction"}])
def test_flag_embedding_sees_the_instructed_query_whether_told_of_a_prompt_or_not(
    built: Path, tmp_path: Path, told_to: dict[str, str]
) -> None:
    found = flag_dataset(built, tmp_path, **told_to)
    assert len(found) == len(TUPLES)
    for (query, (positive, *negatives), scores), source in zip(map(found.__getitem__, range(2)), TUPLES, strict=True):
        assert (query, positive, sorted(negatives), scores) == (
            asked(source),
            source.positive,
            sorted(source.negatives),
            None,
        )


def test_flag_embedding_does_not_halve_the_batch_of_a_symmetric_task(tmp_path: Path) -> None:
    from FlagEmbedding.abc.finetune import embedder

    rows: list[Example] = examples(8)
    folder = released(rows, tmp_path, formats=["flag_embedding"])
    files = [str(path) for path in (folder / "flag_embedding").iterdir()]
    arguments = embedder.AbsEmbedderDataArguments(
        train_data=files, cache_path=str(tmp_path / "cache"), train_group_size=3
    )
    found = embedder.AbsEmbedderSameDatasetTrainDataset(arguments, 4, 0, None)
    queries, passages, _, _ = found[0]
    assert (len(found), len(queries), len(passages)) == (2, 4, 12)
