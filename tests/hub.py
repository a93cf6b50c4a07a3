"""A stand-in for the Hub's HTTP API on loopback: data sets, with what huggingface_hub 2.4 asks of the real one.

It keeps commits, branches, tags and large files in memory; it checks what it is sent against the checksums that it was promised, and
refuses in the forms that the client tells apart (status, X-Error-Code, X-Error-Message). What it does not know it answers 404, as does
the Hub. Xet is not spoken: the client is to run with HF_HUB_DISABLE_XET=1, and sends large files by the LFS protocol.
"""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import ThreadingHTTPServer
from pathlib import PurePosixPath
from threading import Lock, Thread
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from hub_storage import ATTRIBUTES, LARGE, Account, Answer, Blob, Repository, Storage, entries


@dataclass
class Hub:
    """What the server keeps, and how it is to fail."""

    accounts: dict[str, Account] = field(default_factory=lambda: {"hf_mine": Account("me")})
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    page: int = 1000
    part_bytes: int | None = None
    """Large files come in parts of this size, where there is one."""
    puts_left: int | None = None
    """How many large files are taken before the line is cut."""
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Requests (method and path, as a pattern) that are answered by a status and a message."""
    ignored: tuple[str, ...] = ()
    """What a .gitignore there leaves out."""
    endpoint: str = ""
    storage: str = ""
    """Where large files lie: another host than the Hub's, which gets no token."""
    lock: Lock = field(default_factory=Lock)

    def add(self, repo_id: str, *, private: bool = True) -> Repository:
        made = self.repositories[repo_id] = Repository(private)
        made.commit("main", {".gitattributes": Blob(ATTRIBUTES, large=False)}, "initial commit")
        return made

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        kept = self.repositories[repo_id]
        return {path: blob.content for path, blob in kept.commits[kept.find(revision)].items()}

    def puts(self) -> list[str]:
        return [request for request in self.asked if request.startswith("PUT ")]


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Serve it on a free port of loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": hub}))
    hub.endpoint, hub.storage = (f"http://{host}:{server.server_address[1]}" for host in ("127.0.0.1", "localhost"))
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    serving.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


API = r"/api/datasets/(?P<repo>[^/]+/[^/]+)"
GIT = r"/datasets/(?P<repo>[^/]+/[^/]+)\.git/info/lfs"
ROUTES = {
    r"POST /api/repos/create": "create",
    r"POST /api/validate-yaml": "validate_card",
    rf"GET {API}": "info",
    rf"GET {API}/revision/(?P<revision>[^/]+)": "info",
    rf"GET {API}/refs": "refs",
    rf"GET {API}/tree/(?P<revision>[^/]+)(?:/(?P<under>.+))?": "tree",
    rf"POST {API}/paths-info/(?P<revision>[^/]+)": "paths_info",
    rf"POST {API}/preupload/(?P<revision>[^/]+)": "preupload",
    rf"POST {API}/commit/(?P<revision>[^/]+)": "commit",
    rf"POST {API}/tag/(?P<revision>[^/]+)": "tag",
    rf"POST {GIT}/objects/batch": "batch",
    rf"POST {GIT}/complete/(?P<oid>\w+)": "complete",
    rf"POST {GIT}/verify": "verify",
    r"PUT /storage/(?P<repo>[^/]+/[^/]+)/(?P<oid>\w{64})": "put",
    r"PUT /storage/(?P<repo>[^/]+/[^/]+)/(?P<oid>\w{64})/(?P<part>\d+)": "put",
    r"(?:GET|HEAD) /storage/(?P<repo>[^/]+/[^/]+)/(?P<oid>\w{64})": "stored",
    r"(?:GET|HEAD) /datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)": "resolve",
}
WRITES = {"create", "preupload", "commit", "tag", "batch", "complete", "verify"}
WITHOUT_LOGIN = {"put", "stored", "complete"}
"""Storage is asked by signed addresses."""


class _Handler(Storage):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        request = f"{self.command} {address.path}"
        self.query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        self.content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            with self.hub.lock:
                self.hub.asked.append(request)
                self.answer(request)
        except Answer as other:
            self.send(other.body, other.status, other.headers)

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the base class asks for these names

    def answer(self, request: str) -> None:
        for pattern, (status, message) in self.hub.refuse.items():
            if re.fullmatch(pattern, request):
                raise Answer(status, message)
        for pattern, name in ROUTES.items():
            if match := re.fullmatch(pattern, request):
                given = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                if "repo" in given:
                    given["repo"] = self.repository(given["repo"], name)
                elif name in WRITES:
                    self.account()
                return getattr(self, name)(**given)
        raise Answer(404, "Sorry, we can't find the page you are looking for.")

    def account(self) -> Account | None:
        """Who asks. An unknown token is refused, and no token may read what is public."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.accounts:
            raise Answer(401, "Invalid credentials in Authorization header")
        return self.hub.accounts.get(token)

    def repository(self, repo_id: str, name: str) -> Repository:
        self.repo_id, found = repo_id, self.hub.repositories.get(repo_id)
        if name in WITHOUT_LOGIN:
            if name != "complete" and self.headers.get("Authorization"):
                raise Answer(400, "Only one auth mechanism allowed")
            return found
        account = self.account()
        is_own = account is not None and account.name == repo_id.partition("/")[0]
        if found is None or (found.private and not is_own):
            raise Answer(404 if account else 401, "Repository not found", "RepoNotFound")
        if name in WRITES and not (is_own and account.may_write):
            raise Answer(403, "Authorization error.")
        return found

    def send(self, body: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def create(self) -> None:
        asked, account = self.body(), self.account()
        if account is None:
            raise Answer(401, "Invalid username or password.")
        owner = asked.get("organization") or account.name
        if owner != account.name or not account.may_write:
            raise Answer(403, f'You don\'t have the rights to create a dataset under the namespace "{owner}"')
        repo_id = f"{owner}/{asked['name']}"
        url = f"{self.hub.endpoint}/datasets/{repo_id}"
        if repo_id in self.hub.repositories:
            raise Answer(409, "You already created this dataset repo", url=url)
        self.hub.add(repo_id, private=asked.get("visibility") == "private")
        self.send({"url": url, "name": repo_id})

    def validate_card(self) -> None:
        front = self.body()["content"].split("---\n")
        try:
            yaml.safe_load(front[1] if len(front) > 2 else "")
        except yaml.YAMLError as cause:
            return self.send({"errors": [{"message": str(cause)}], "warnings": []}, 400)
        return self.send({"errors": [], "warnings": []})

    def found(self, repo: Repository, revision: str) -> str:
        if (oid := repo.find(revision)) is None:
            raise Answer(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid

    def info(self, repo: Repository, revision: str = "main") -> None:
        oid = self.found(repo, revision)
        files = [{"rfilename": path} for path in sorted(repo.commits[oid])]
        self.send(
            {
                "id": self.repo_id,
                "sha": oid,
                "private": repo.private,
                "gated": False,
                "disabled": False,
                "tags": [],
                "siblings": files,
            }
        )

    def refs(self, repo: Repository) -> None:
        def listed(refs: dict[str, str], kind: str) -> list[dict[str, str]]:
            return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in refs.items()]

        self.send({"branches": listed(repo.branches, "heads"), "tags": listed(repo.tags, "tags"), "converts": []})

    def tree(self, repo: Repository, revision: str, under: str = "") -> None:
        listed = list(
            entries(
                repo.commits[self.found(repo, revision)],
                under,
                recursive=self.query.get("recursive", "").lower() == "true",
            )
        )
        if under and not listed:
            raise Answer(404, f"{under} does not exist", "EntryNotFound")
        start = int(self.query.get("cursor", 0))
        more = start + self.hub.page < len(listed)
        next_page = f"{self.hub.endpoint}{urlsplit(self.path).path}?recursive={self.query.get('recursive')}&cursor={start + self.hub.page}"
        self.send(listed[start : start + self.hub.page], headers={"Link": f'<{next_page}>; rel="next"'} if more else {})

    def paths_info(self, repo: Repository, revision: str) -> None:
        paths = self.body()["paths"] if self.content.startswith(b"{") else parse_qs(self.content.decode())["paths"]
        files = repo.commits[self.found(repo, revision)]
        folders = {str(parent) for path in files for parent in PurePosixPath(path).parents}
        known = [path for path in paths if path in files or path in folders]
        self.send(
            [
                files[path].entry(path) if path in files else {"type": "directory", "path": path, "oid": "0" * 40}
                for path in known
            ]
        )

    def preupload(self, repo: Repository, revision: str) -> None:
        there = repo.commits[self.found(repo, revision)]
        self.send({"files": [self.mode(file, there) for file in self.body()["files"]]})

    def mode(self, file: dict, there: dict[str, Blob]) -> dict:
        path, size = file["path"], file["size"]
        large = path.endswith(".parquet") or size > LARGE
        known = there.get(path)
        oid = (known.sha256 if known.large else known.oid) if known else None
        ignored = any(fnmatch(path, pattern) for pattern in self.hub.ignored)
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": ignored, "oid": oid}

    def commit(self, repo: Repository, revision: str) -> None:
        if revision not in repo.branches:
            raise Answer(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        header, *operations = [json.loads(line) for line in self.content.splitlines()]
        if header["value"].get("parentCommit", repo.branches[revision]) != repo.branches[revision]:
            raise Answer(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repo.commits[repo.branches[revision]])
        for one in operations:
            self.apply(repo, files, one["key"], one["value"])
        oid = repo.commit(revision, files, header["value"]["summary"])
        self.send(
            {
                "commitUrl": f"{self.hub.endpoint}/datasets/{self.repo_id}/commit/{oid}",
                "commitOid": oid,
                "success": True,
            }
        )

    def apply(self, repo: Repository, files: dict[str, Blob], key: str, value: dict) -> None:
        path = value["path"]
        if key == "file":
            files[path] = Blob(base64.b64decode(value["content"]), large=False)
        elif key == "lfsFile":
            if value["oid"] not in repo.objects:
                raise Answer(400, f"LFS pointer points to a file that does not exist: {path}")
            files[path] = Blob(repo.objects[value["oid"]], large=True)
        elif files.pop(path, None) is None:
            raise Answer(404, "A file with this name doesn't exist", "EntryNotFound")

    def tag(self, repo: Repository, revision: str) -> None:
        name = self.body()["tag"]
        if name in repo.tags:
            raise Answer(409, "Tag reference exists already.")
        repo.tags[name] = self.found(repo, revision)
        self.send({})

    def resolve(self, repo: Repository, revision: str, path: str) -> None:
        oid = self.found(repo, revision)
        if (blob := repo.commits[oid].get(path)) is None:
            raise Answer(404, "Entry not found", "EntryNotFound")
        named = {"X-Repo-Commit": oid, "ETag": f'"{blob.oid}"', "Content-Type": "application/octet-stream"}
        if not blob.large:
            return self.send(blob.content, headers=named)
        linked = {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content))}
        return self.send(
            b"", 302, {**named, **linked, "Location": f"{self.hub.storage}/storage/{self.repo_id}/{blob.sha256}"}
        )
