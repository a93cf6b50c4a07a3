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

LICENSES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0
    cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
    cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0
    epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research
    lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 openmdw-1.1 openrail++ osl-3.0 postgresql ofl-1.1 ncsa
    unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3
    llama4 grok2-community gemma unknown other
    """.split()  # noqa: SIM905 - a list of eighty would take a page
)
"""The names of licences that the Hub knows (its page "Licenses"); it refuses a card with another one."""

SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
    (10**10, "1B<n<10B"),
    (10**11, "10B<n<100B"),
    (10**12, "100B<n<1T"),
)

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
    return next((name for bound, name in SIZES if rows < bound), "n>1T")


def _license(given: Iterable[str | None]) -> str | list[str]:
    """The sources' licences by the Hub's names; several where they differ."""
    named = {_license_name(one) for one in given}
    names = sorted(named) or ["unknown"]
    return names if len(names) > 1 else names[0]


def _license_name(given: str | None) -> str:
    if given is None:
        return "unknown"
    return given.lower() if given.lower() in LICENSES else "other"


def _tags(contents: Contents, origins: Origins) -> list[str]:
    trainers = (config.trainer.lower().replace(" ", "-") for config in contents.configs if config.trainer != ANY)
    told = ["pairmill", *(["synthetic"] if origins.is_synthetic else []), *trainers]
    return [tag for tag in dict.fromkeys(told) if _TAG.fullmatch(tag)]


def _config(config: ConfigFiles) -> dict[str, Any]:
    files = [{"split": name, "path": _one_or_all(split.patterns)} for name, split in config.filled().items()]
    return {"config_name": config.name, "data_files": files}


def _one_or_all(patterns: tuple[str, ...]) -> str | list[str]:
    return patterns[0] if len(patterns) == 1 else list(patterns)
