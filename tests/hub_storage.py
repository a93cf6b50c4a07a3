"""What the stand-in for the Hub keeps: repositories with commits, and large files, taken and given by the LFS protocol."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import PurePosixPath
from typing import Any

ATTRIBUTES = b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"
LARGE = 10_000_000
"""The Hub takes a text of more bytes as a large file."""


@dataclass
class Account:
    name: str
    may_write: bool = True


@dataclass(frozen=True)
class Blob:
    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()
        )

    @property
    def oid(self) -> str:
        kept = self.pointer if self.large else self.content
        return hashlib.sha1(b"blob %d\0" % len(kept) + kept).hexdigest()

    def entry(self, path: str) -> dict:
        large = {"oid": self.sha256, "size": len(self.content), "pointerSize": len(self.pointer)}
        return {"type": "file", "path": path, "oid": self.oid, "size": len(self.content)} | (
            {"lfs": large} if self.large else {}
        )


@dataclass
class Repository:
    private: bool
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, Blob], message: str) -> str:
        said = [self.branches.get(branch), message, sorted((path, blob.oid) for path, blob in files.items())]
        oid = hashlib.sha1(json.dumps(said).encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        self.messages.append(message)
        return oid

    def find(self, revision: str) -> str | None:
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        return oid if oid in self.commits else None


def entries(files: dict[str, Blob], under: str, *, recursive: bool) -> Iterator[dict]:
    """The files and folders below a folder, as the tree lists them."""
    below = {path: blob for path, blob in sorted(files.items()) if not under or path.startswith(f"{under}/")}
    depth = len(PurePosixPath(under).parts)
    folders = {str(parent) for path in below for parent in PurePosixPath(path).parents if len(parent.parts) > depth}
    for folder in sorted(folders):
        if recursive or len(PurePosixPath(folder).parts) == depth + 1:
            yield {"type": "directory", "path": folder, "oid": hashlib.sha1(folder.encode()).hexdigest(), "size": 0}
    for path, blob in below.items():
        if recursive or len(PurePosixPath(path).parts) == depth + 1:
            yield blob.entry(path)


class Answer(Exception):
    """An answer other than the usual one."""

    def __init__(self, status: int, message: str, code: str | None = None, **body: str) -> None:
        super().__init__(message)
        self.status, self.body = status, {"error": message, **body}
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


class Storage(BaseHTTPRequestHandler):
    """Large files: the client asks which are wanted, and sends those whole or in parts, to addresses that need no login."""

    hub: Any
    repo_id: str
    content: bytes

    def body(self) -> dict:
        return json.loads(self.content)

    def batch(self, repo: Repository) -> None:
        self.send(
            {
                "transfer": "basic",
                "objects": [self.wanted(repo, one["oid"], one["size"]) for one in self.body()["objects"]],
            }
        )

    def wanted(self, repo: Repository, oid: str, size: int) -> dict:
        """What the client is to do with one large file: nothing where it has come already."""
        if oid in repo.objects:
            return {"oid": oid, "size": size}
        git, href = (
            f"{self.hub.endpoint}/datasets/{self.repo_id}.git/info/lfs",
            f"{self.hub.storage}/storage/{self.repo_id}/{oid}",
        )
        if not (step := self.hub.part_bytes) or size <= step:
            return {
                "oid": oid,
                "size": size,
                "actions": {"upload": {"href": href}, "verify": {"href": f"{git}/verify"}},
            }
        parts = {str(number + 1): f"{href}/{number + 1}" for number in range(-(-size // step))}
        return {
            "oid": oid,
            "size": size,
            "actions": {"upload": {"href": f"{git}/complete/{oid}", "header": {"chunk_size": str(step), **parts}}},
        }

    def put(self, repo: Repository, oid: str, part: str | None = None) -> None:
        if self.hub.puts_left is not None:
            if self.hub.puts_left == 0:
                self.close_connection = True  # the line is cut: no answer at all
                return
            self.hub.puts_left -= 1
        if part:
            repo.parts[oid, int(part)] = self.content
        else:
            self.keep(repo, oid, self.content)
        self.send(b"", headers={"ETag": f'"{hashlib.md5(self.content).hexdigest()}"'})

    def keep(self, repo: Repository, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            raise Answer(400, "The provided 'x-amz-content-sha256' does not match what was computed.")
        repo.objects[oid] = content

    def complete(self, repo: Repository, oid: str) -> None:
        parts = [repo.parts.pop((oid, part["partNumber"])) for part in self.body()["parts"]]
        self.keep(repo, oid, b"".join(parts))
        self.send({})

    def verify(self, repo: Repository) -> None:
        asked = self.body()
        if len(repo.objects.get(asked["oid"], b"")) != asked["size"]:
            raise Answer(404, "Object does not exist")
        self.send({})

    def stored(self, repo: Repository, oid: str) -> None:
        content, headers = (
            repo.objects[oid],
            {"ETag": f'"{oid}"', "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"},
        )
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            return self.send(content[start : end + 1], 206, headers)
        return self.send(content, headers=headers)
