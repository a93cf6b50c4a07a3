"""How each trainer is pointed at its config: one short block a config, for the card.

Where batches were planned, a block keeps the order and that size, or says that its trainer cannot.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias

from pipeline.release.built import PARQUET, ConfigFiles, Contents

Planned: TypeAlias = int | None
"""The rows of a batch over all devices, where batches were planned; 0 where they are of several sizes."""

_TRAINED = ("anchor", "positive", "negative", "sentence1", "sentence2", "score", "label")
"""The columns that sentence-transformers is to see, beside numbered negatives."""


_DATASETS = "from datasets import load_dataset"


def loading(contents: Contents, planned: Planned) -> Iterator[str]:
    """For each config a head, what is in it, and the block that loads it."""
    for config in contents.configs:
        yield f"### `{config.name}`"
        yield ""
        yield _about(config)
        yield ""
        yield BLOCKS.get(config.format, _by_datasets)(config, contents, planned)
        yield ""
        if planned is not None and config.format in LOSES_PLANS:
            yield f"{config.trainer} shuffles rows: the plan of batches is lost there."
            yield ""


def _about(config: ConfigFiles) -> str:
    rows = ", ".join(f"{name} {split.rows:,}" for name, split in config.splits.items())
    columns = f"columns {', '.join(f'`{column}`' for column in config.columns)}" if config.columns else ""
    return f"{'; '.join(filter(None, (f'Rows: {rows}' if rows else '', columns))) or 'Files for evaluation'}."


def _by_datasets(config: ConfigFiles, contents: Contents, _: Planned) -> str:
    return _python(f"{_DATASETS}\n\n{_loaded(config, contents)}")


def _loaded(config: ConfigFiles, contents: Contents) -> str:
    split = _split(config)
    by_files = f'"json", data_files="{_pattern(config)}", split="train"'
    named = f'".", "{config.name}", split="{split}"' if config in contents.offered() else by_files
    return f"rows = load_dataset({named})"


def _sentence_transformers(config: ConfigFiles, contents: Contents, planned: Planned) -> str:
    seen = [column for column in config.columns if column in _TRAINED or column.startswith("negative_")]
    chosen = f".select_columns({seen})" if seen and seen != list(config.columns) else ""
    loss = "CoSENTLoss" if {"score", "label"} & config.columns.keys() else "MultipleNegativesRankingLoss"
    heads, arguments, given = ("", "", "") if planned is None else (_IN_ORDER, _arguments(planned), "args=arguments, ")
    return _python(
        f"{_DATASETS}\n"
        "from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, losses\n"
        f"{heads}\n"
        f"{_loaded(config, contents)}{chosen}\n"
        'model = SentenceTransformer("ORG/MODEL")\n'
        f"{arguments}"
        f"SentenceTransformerTrainer(model, {given}train_dataset=rows, loss=losses.{loss}(model)).train()"
    )


_IN_ORDER = """from sentence_transformers import SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch.utils.data import SequentialSampler


class InOrder(DefaultBatchSampler):
    def __init__(self, dataset, **rest):
        super().__init__(SequentialSampler(dataset), **rest)

"""
"""A sampler that does not draw (docs/batches.md)."""


def _arguments(planned: int) -> str:
    return (
        "arguments = SentenceTransformerTrainingArguments(\n"
        '    "out", batch_sampler=InOrder, dataloader_drop_last=True,\n'
        f"    per_device_train_batch_size={planned or 'SIZE'},  # divided by the number of devices\n"
        ")\n"
    )


def _ms_swift(config: ConfigFiles, _: Contents, planned: Planned) -> str:
    return _shell(
        "swift sft --model Qwen/Qwen3-Embedding-0.6B --task_type embedding --loss_type infonce",
        f"--dataset {_pattern(config)}",
        *_in_order(planned),
    )


def _ms_swift_reranker(config: ConfigFiles, _: Contents, planned: Planned) -> str:
    return _shell(
        "swift sft --model Qwen/Qwen3-Reranker-0.6B --task_type generative_reranker --loss_type listwise_reranker",
        f"--dataset {_pattern(config)}",
        *_in_order(planned),
    )


def _in_order(planned: Planned) -> Iterator[str]:
    if planned is not None:
        yield "--dataset_shuffle false --train_dataloader_shuffle false"
    if planned:
        yield f"--per_device_train_batch_size {planned}  # divided by the number of devices"


def _flag_embedding(config: ConfigFiles, contents: Contents, _: Planned) -> str:
    return _shell(
        "torchrun --nproc_per_node 1 -m FlagEmbedding.finetune.embedder.decoder_only.base",
        "--model_name_or_path ORG/MODEL --sentence_pooling_method last_token --query_max_len 512 --passage_max_len 512",
        f"--train_data {_pattern(config)} --train_group_size {contents.negatives + 1} --output_dir out",
    )


def _tevatron(config: ConfigFiles, contents: Contents, _: Planned) -> str:
    kind = "parquet" if config.suffix == PARQUET else "json"
    return _shell(
        "python -m tevatron.retriever.driver.train",
        "--model_name_or_path ORG/MODEL --pooling last --append_eos_token --query_max_len 512 --passage_max_len 512",
        f"--dataset_name {kind} --dataset_path '{_pattern(config)}' --train_group_size {contents.negatives + 1} --output_dir out",
    )


def _nemo(config: ConfigFiles, contents: Contents, _: Planned) -> str:
    split = config.splits.get(_split(config))
    files = ", ".join(split.files) if split else ""
    return (
        "```yaml\n"
        "dataset:\n"
        "  _target_: nemo_automodel.components.datasets.llm.retrieval_dataset_inline.make_retrieval_dataset\n"
        f"  data_dir_list: [{files}]\n"
        f"  n_passages: {contents.negatives + 1}\n"
        "```"
    )


def _beir(config: ConfigFiles, _: Contents, _planned: Planned) -> str:
    splits = [file.rpartition("/")[2].removesuffix(".tsv") for file in config.files if file.endswith(".tsv")]
    return _python(
        "from beir.datasets.data_loader import GenericDataLoader\n\n"
        f'corpus, queries, qrels = GenericDataLoader("{config.name}").load(split="{(splits or ["test"])[-1]}")'
    )


BLOCKS: Mapping[str, Callable[[ConfigFiles, Contents, Planned], str]] = MappingProxyType(
    {
        "sentence_transformers": _sentence_transformers,
        "ms_swift": _ms_swift,
        "ms_swift_reranker": _ms_swift_reranker,
        "flag_embedding": _flag_embedding,
        "tevatron": _tevatron,
        "nemo": _nemo,
        "beir": _beir,
    }
)
"""By format; what is not here is loaded by `datasets`."""

LOSES_PLANS = frozenset({"flag_embedding", "tevatron"})
"""Formats whose trainers draw rows anew and have no option against it."""


def _split(config: ConfigFiles) -> str:
    """The split to show: train, or the first that there is."""
    return next((name for name in ("train", *config.splits) if name in config.splits), "train")


def _pattern(config: ConfigFiles) -> str:
    split = config.splits.get(_split(config))
    return " ".join(split.patterns if split else config.files)


def _python(code: str) -> str:
    return f"```python\n{code}\n```"


def _shell(*lines: str) -> str:
    joined = " \\\n    ".join(lines)
    return f"```shell\n{joined}\n```"
