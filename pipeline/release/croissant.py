"""The release in Croissant, the vocabulary of MLCommons for data sets (version 1.0, docs.mlcommons.org/croissant).

Every file is there with its size and checksum, and the rows of every split with flat columns as a record set. What is nested
(the messages of a chat) has no type in that vocabulary short of taking it apart, so those columns are left out, not misdescribed;
a config that has no others is files alone, since a record set without a field cannot be read.
A publication date is the reader's to add: a release holds none, so that the same build gives the same bytes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.release.built import ConfigFiles, Contents, SplitFiles

CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "conformsTo": "dct:conformsTo",
    **{
        name: f"cr:{name}"
        for name in (
            *(
                "citeAs",
                "column",
                "equivalentProperty",
                "extract",
                "field",
                "fileObject",
                "fileProperty",
                "fileSet",
                "format",
            ),
            *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references"),
            *("regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
        )
    },
}
"""The context that the specification gives."""

_FORMATS = {
    ".parquet": "application/x-parquet",
    ".jsonl": "application/jsonlines",
    ".tsv": "text/tab-separated-values",
    ".json": "application/json",
}
_TYPES = {"string": "sc:Text", "large_string": "sc:Text", "bool": "sc:Boolean"}
_LIST = re.compile(r"(?:large_)?list<\w+: (\w+)(?: not null)?>")


@dataclass(frozen=True)
class Stored:
    """A file as it lies in the release."""

    size: int
    sha256: str


def croissant(name: str, contents: Contents, licenses: list[str], stored: Mapping[str, Stored]) -> dict[str, Any]:
    """The JSON-LD; `stored` has every file of the data by its path in the release."""
    sets = [(config, *item) for config in contents.configs for item in config.filled().items()]
    return {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"{contents.total:,} examples for training text-embedding models; see README.md.",
        **({"license": licenses if len(licenses) > 1 else licenses[0]} if licenses else {}),
        "distribution": [
            *(_file(path, file) for path, file in sorted(stored.items())),
            *(_files(config, split, files) for config, split, files in sets),
        ],
        "recordSet": [records for config, split, _ in sets if (records := _records(config, split))["field"]],
    }


def _file(path: str, file: Stored) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{file.size} B",
        "encodingFormat": _format(path),
        "sha256": file.sha256,
    }


def _files(config: ConfigFiles, split: str, files: SplitFiles) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"{config.name}/{split}-files",
        "name": f"{config.name}/{split}-files",
        "encodingFormat": _format(files.files[0]),
        "includes": files.patterns[0] if len(files.patterns) == 1 else list(files.patterns),
    }


def _records(config: ConfigFiles, split: str) -> dict[str, Any]:
    name = f"{config.name}/{split}"
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": list(_fields(config, name))}


def _fields(config: ConfigFiles, records: str) -> Iterator[dict[str, Any]]:
    for column, arrow in config.columns.items():
        listed = _LIST.fullmatch(arrow)
        if kind := _type(listed[1] if listed else arrow):
            yield {
                "@type": "cr:Field",
                "@id": f"{records}/{column}",
                "name": f"{records}/{column}",
                "dataType": kind,
                **({"repeated": True} if listed else {}),
                "source": {"fileSet": {"@id": f"{records}-files"}, "extract": {"column": column}},
            }


def _type(arrow: str) -> str | None:
    if re.fullmatch(r"u?int\d+", arrow):
        return "sc:Integer"
    return "sc:Float" if arrow in {"float", "double", "halffloat"} else _TYPES.get(arrow)


def _format(path: str) -> str:
    return _FORMATS.get(f".{path.rpartition('.')[2]}", "text/plain")
