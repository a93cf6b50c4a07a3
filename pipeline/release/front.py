"""The YAML at the top of a card: what the Hub shows of a data set, and what `datasets` loads it by."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import yaml

from pipeline.release.built import ANY, ConfigFiles, Contents
from pipeline.release.origins import Origins

TASKS: Mapping[str, str] = MappingProxyType(
    {
        "retrieval": "text-retrieval",
        "similarity": "sentence-similarity",
        "bitext": "translation",
        "classification": "text-classification",
    }
)
"""Our tasks by the names that the Hub has for them."""

LICENSE = re.compile(
    r"apache-2\.0|mit|bsd(-[23]-clause)?|cc|cc0-1\.0|cdla-sharing-1\.0|cdla-permissive-[12]\.0|c-uda|etalab-2\.0|gfdl|l?gpl(-3\.0)?"
    r"|cc-by-(2\.5|[234]\.0|sa-[34]\.0|nc-[234]\.0|nd-4\.0|nc-nd-[34]\.0|nc-sa-[234]\.0)|mpl-2\.0|odbl|odc-by|openrail|pddl|unlicense"
)
"""Names of licences that the Hub knows; it refuses a card with another one."""

SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
LARGER = ((10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"))

_BCP_47 = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)+")
_ISO = re.compile(r"[a-z]{2,3}")
_TAG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def front_matter(name: str, contents: Contents, origins: Origins) -> str:
    """The block with its fences."""
    text = yaml.safe_dump(front(name, contents, origins), allow_unicode=True, sort_keys=False, width=10_000)
    return f"---\n{text}---\n"


def front(name: str, contents: Contents, origins: Origins) -> dict[str, Any]:
    tags = sorted({tag for group in contents.rows for tag in (group.query_language, group.positive_language)})
    fine = [tag for tag in tags if _BCP_47.fullmatch(tag)]
    return {
        "pretty_name": name,
        "language": sorted({short for tag in tags if _ISO.fullmatch(short := tag.partition("-")[0].lower())}),
        **({"language_bcp47": fine} if fine else {}),
        "license": _license(origins.licenses),
        "size_categories": [size_of(contents.total)],
        "task_categories": sorted({TASKS[group.task] for group in contents.rows if group.task in TASKS}),
        "tags": _tags(contents, origins),
        "configs": [_config(config) for config in contents.offered()],
    }


def size_of(rows: int) -> str:
    """The Hub's name for so many rows."""
    return next((name for bound, name in (*SIZES, *LARGER) if rows < bound), "n>1T")


def _license(given: Iterable[str | None]) -> str | list[str]:
    """The sources' licences by the Hub's names; several where they differ."""
    named = {_license_name(one) for one in given}
    names = sorted(named) or ["unknown"]
    return names if len(names) > 1 else names[0]


def _license_name(given: str | None) -> str:
    if given is None:
        return "unknown"
    return given.lower() if LICENSE.fullmatch(given.lower()) else "other"


def _tags(contents: Contents, origins: Origins) -> list[str]:
    trainers = (config.trainer.lower().replace(" ", "-") for config in contents.configs if config.trainer != ANY)
    told = ["pairmill", *(["synthetic"] if origins.is_synthetic else []), *trainers]
    return [tag for tag in dict.fromkeys(told) if _TAG.fullmatch(tag)]


def _config(config: ConfigFiles) -> dict[str, Any]:
    files = [{"split": name, "path": _one_or_all(split.patterns)} for name, split in config.filled().items()]
    return {"config_name": config.name, "data_files": files}


def _one_or_all(patterns: tuple[str, ...]) -> str | list[str]:
    return patterns[0] if len(patterns) == 1 else list(patterns)
