"""What an export says of what it built: the file contents.json, read and checked."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, NonNegativeInt, StringConstraints, ValidationError

from pipeline.store import StoreError

CONTENTS = "contents.json"
ANY = "any"
"""The trainer of a config that is for none in particular."""
CARD, CROISSANT, LINEAGE = "README.md", "croissant.json", "lineage.json"

PARQUET = ".parquet"

_SHARD = re.compile(r"-\d{5}-of-\d{5}(?=\.\w+$)")


def _inside(path: str) -> str:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(f"{path} is no path inside the release")
    return path


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
File = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$"), AfterValidator(_inside)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SplitFiles(_Part):
    """The shards of one split."""

    files: tuple[File, ...]
    rows: NonNegativeInt

    @property
    def patterns(self) -> tuple[str, ...]:
        """The shards by pattern: `pair/train-*.parquet`."""
        return tuple(dict.fromkeys(_SHARD.sub("-*", file) for file in self.files))


class ConfigFiles(_Part):
    """One config: its format, the trainer that it is for, its columns with their Arrow types, and its files."""

    name: Name
    format: Name
    trainer: str
    columns: Mapping[str, str] = {}
    splits: Mapping[Name, SplitFiles] = {}
    files: tuple[File, ...] = ()

    def all_files(self) -> Iterator[str]:
        yield from self.files
        for split in self.splits.values():
            yield from split.files

    @property
    def suffix(self) -> str:
        return next((PurePosixPath(file).suffix for file in self.all_files()), "")

    def filled(self) -> dict[str, SplitFiles]:
        """The splits that a loader can read: `datasets` finds no columns in JSON lines without a line."""
        return {
            name: split for name, split in self.splits.items() if split.files and (split.rows or self.suffix == PARQUET)
        }


class Rows(_Part):
    """How many rows there are of one source, task, pair of languages and split."""

    source: str
    task: str
    query_language: str
    positive_language: str
    split: str
    rows: NonNegativeInt


class Contents(_Part):
    """All that an export built. `negatives` is how many each row has; `batched`, whether rows stand in planned batches."""

    negatives: NonNegativeInt
    batched: bool = False
    configs: tuple[ConfigFiles, ...]
    rows: tuple[Rows, ...] = ()

    @property
    def total(self) -> int:
        return sum(group.rows for group in self.rows)

    def offered(self) -> list[ConfigFiles]:
        """The configs that are loaded by name: Parquet where there is any, else JSON lines.

        `datasets` reads all configs of a card by the format of the first, so the others are loaded by their files.
        """
        filled = [config for config in self.configs if config.filled()]
        tables = [config for config in filled if config.suffix == PARQUET]
        return tables or filled


def read_contents(built: Path) -> Contents:
    """What is in the folder that an export built.

    Raises StoreError where that is not said, or a file that is named is not there.
    """
    path = built / CONTENTS
    again = f"remove {built.parent} and run the config again to have it made anew"
    try:
        contents = Contents.model_validate_json(path.read_bytes())
    except OSError as cause:
        raise StoreError(f"{path}: cannot be read ({cause.strerror}); {again}") from cause
    except ValidationError as cause:
        fault = cause.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise StoreError(f"{path}: {where}: {fault['msg']}; {again}") from cause
    named = (file for config in contents.configs for file in config.all_files())
    if lost := next((file for file in named if not (built / file).is_file()), None):
        raise StoreError(f"{path}: names {lost}, which is not there; {again}")
    return contents
