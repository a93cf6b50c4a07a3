"""A release on the Hub: one commit, and a tag with the release's name on it.

A release never changes, so nothing is sent before its files are what its SHA256SUMS says and the tag is free (or names the
same content already). All files go in one commit, with which the files of an earlier release that this one lacks go away:
a card that names its files by pattern would load an old shard with the new ones. The tag is set last, once the Hub lists
every file under the same checksum: its existence is what "pushed" means. What the Hub has is not sent again, so a push that
was cut off is run again.

Only where a branch's SHA256SUMS lists a lineage.json is it that of an earlier release of ours: others keep checksums too.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias, TypedDict

from pipeline import __version__
from pipeline.checksums import LINE, SUMS, ReleaseFile, release_files
from pipeline.raw_config import ConfigError
from pipeline.store import StoreError
from pipeline.tables import aligned, size_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub._commit_api import CommitOperation
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

LINEAGE = "lineage.json"
_TAG = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)

Tree: TypeAlias = "Mapping[str, RepoFile]"
"""The files of a commit by their paths."""


class PushError(Exception):
    """The Hub refused, or was not reached; the message says the way on."""


class _Place(TypedDict):
    repo_id: str
    repo_type: str


def push(  # noqa: PLR0913 - what a push can be told
    release: Path,
    repo_id: str,
    *,
    private: bool = True,
    revision: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
) -> Iterator[str]:
    """Put a release into the data set `repo_id` of the Hub, on the branch `revision` (main); yields lines to show as it goes.

    The token is that of HF_TOKEN or of the Hub's own login, the Hub that of HF_ENDPOINT. A dry run asks nothing of it.

    Raises ConfigError for names that cannot be used, StoreError for a release that cannot be read or is not what its SHA256SUMS says, and
    PushError where the Hub refuses or is not reached.
    """
    _check_repository(repo_id)
    tag = _tag(release)
    files = release_files(release)
    branch = revision or "main"
    yield f"{release}: {_told(files)}, all as its {SUMS} says"
    yield f"To the {_visibility(private)} data set {repo_id}, branch {branch}, tag {tag}"
    if dry_run:
        yield from aligned([(size_of(file.size), file.name) for file in files], [0])
        yield "A dry run: nothing was asked of the Hub, and nothing sent."
        return
    yield from _Push(_api(repo_id), repo_id, private, branch, tag).run(files, message)


def _tag(release: Path) -> str:
    """The release's name, which is to be a tag."""
    name = release.resolve().name
    if not (release / SUMS).is_file():
        raise ConfigError(f"{release}: no release, since it has no {SUMS}; `pairmill run` places one when it is done")
    if not _TAG.fullmatch(name) or ".." in name or name.endswith((".", ".lock")):
        raise ConfigError(f"{name}: cannot be a tag; place the release under a name of letters, digits, - and .")
    return name


def _check_repository(repo_id: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # exported in its documentation alone

    try:
        validate_repo_id(repo_id)
    except HFValidationError as cause:
        raise ConfigError(
            f"{repo_id}: no repository's name ({cause}); it is ACCOUNT/NAME, as in me/my-dataset"
        ) from cause
    if "/" not in repo_id:
        raise ConfigError(f"{repo_id}: whose? A repository's name is ACCOUNT/NAME, as in me/{repo_id}")


def _blob_id(file: ReleaseFile) -> str:
    """What git names a file by that is no large one: the SHA-1 of its size and bytes."""

    def headed() -> "hashlib._Hash":
        return hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)

    with file.path.open("rb") as content:
        return hashlib.file_digest(content, headed).hexdigest()


def _differing(files: Sequence[ReleaseFile], there: Tree) -> list[ReleaseFile]:
    """Those that a commit lacks, or has with other content."""
    return [file for file in files if file.name not in there or not _is_same(file, there[file.name])]


def _is_same(file: ReleaseFile, there: "RepoFile") -> bool:
    if there.lfs:
        return bool(there.lfs.sha256 == file.sha256)
    return there.size == file.size and there.blob_id == _blob_id(file)


def _api(repo_id: str) -> "HfApi":
    from huggingface_hub import HfApi, get_token

    if not (token := get_token()):
        raise PushError(
            f"{repo_id}: not logged in; run `hf auth login`, or set HF_TOKEN to a token that may write there"
        )
    # The library reads HF_ENDPOINT when it is imported, which may have been long ago.
    return HfApi(
        os.environ.get("HF_ENDPOINT") or None, token=token, library_name="pairmill", library_version=__version__
    )


@dataclass(frozen=True)
class _Push:
    """A release on its way to one repository."""

    api: "HfApi"
    repo_id: str
    private: bool
    branch: str
    tag: str

    @property
    def place(self) -> _Place:
        return {"repo_id": self.repo_id, "repo_type": "dataset"}

    def run(self, files: Sequence[ReleaseFile], message: str | None) -> Iterator[str]:
        shown = f"{self.api.endpoint}/datasets/{self.repo_id}/tree/{self.tag}"
        with self._answers():
            if self._made():
                yield f"Made the {_visibility(self.private)} data set {self.repo_id}"
            head, tagged = self._refs()
            if tagged:
                self._check_tagged(files, tagged)
                yield f"It is there already, nothing was sent: {shown}"
                return
            there = self._tree(head)
            lacking, earlier = _differing(files, there), self._earlier(there, head)
            gone = sorted(earlier & there.keys() - {file.name for file in files})
            yield f"Sending {_told(lacking)}; {len(files) - len(lacking)} are there already"
            yield from (f"Taking away {name}, which an earlier release had" for name in gone)
            replaced = (file.name for file in lacking if file.name in there and file.name not in earlier)
            yield from (f"Replacing {name}, which no release put there" for name in replaced)
            if lacking or gone:
                head = self._commit(lacking, gone, head, message or f"Release {self.tag}")
                self._check_arrived(files, head)
            self.api.create_tag(**self.place, tag=self.tag, revision=head)
        yield f"Pushed: {shown}"

    def _made(self) -> bool:
        """Have the repository there, as visible as was asked; whether it had to be made."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            private, made = self.api.dataset_info(self.repo_id).private, False
        except RepositoryNotFoundError:
            self.api.create_repo(**self.place, private=self.private, exist_ok=True)
            private, made = self.api.dataset_info(self.repo_id).private, True  # an organisation may decide otherwise
        if private is not self.private:
            way_out = "leave --public out" if private else "add --public"
            raise PushError(
                f"{self.repo_id}: is {_visibility(bool(private))} on the Hub, and a {_visibility(self.private)} data set was asked for; "
                f"{way_out}, or change it in its settings there"
            )
        return made

    def _refs(self) -> tuple[str, str | None]:
        """The commit of the branch, and that of the tag where there is one."""
        refs = self.api.list_repo_refs(**self.place)
        branches = {ref.name: ref.target_commit for ref in refs.branches}
        if self.tag in branches:
            raise PushError(f"{self.repo_id}: has a branch {self.tag}; place the release under another name")
        if self.branch not in branches:
            raise PushError(f"{self.repo_id}: has no branch {self.branch}; there are {', '.join(sorted(branches))}")
        return branches[self.branch], next((ref.target_commit for ref in refs.tags if ref.name == self.tag), None)

    def _check_tagged(self, files: Sequence[ReleaseFile], commit: str) -> None:
        if differing := _differing(files, self._tree(commit)):
            raise PushError(
                f"{self.repo_id}: its tag {self.tag} has another {differing[0].name}; a release does not change: place this one "
                "under another name (`pairmill release CONFIG --name NAME`) and push that"
            )

    def _tree(self, commit: str) -> Tree:
        from huggingface_hub.hf_api import RepoFile

        entries = self.api.list_repo_tree(**self.place, revision=commit, recursive=True)
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}

    def _earlier(self, there: Tree, head: str) -> set[str]:
        """The names of what an earlier release put there. A file that no release listed is somebody's own."""
        if SUMS not in there:
            return set()
        with TemporaryDirectory() as folder:
            earlier = Path(self.api.hf_hub_download(**self.place, filename=SUMS, revision=head, local_dir=folder))
            lines = earlier.read_text("utf-8", errors="replace").split("\n")
        listed = {match[2] for match in map(LINE.fullmatch, lines) if match}
        return {*listed, SUMS} if LINEAGE in listed else set()

    def _commit(self, lacking: Sequence[ReleaseFile], gone: Sequence[str], head: str, message: str) -> str:
        """Send these files and commit them all at once; the new commit."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        try:
            added = [CommitOperationAdd(file.name, file.path) for file in lacking]
            for addition, file in zip(added, lacking, strict=True):
                addition.upload_info.sha256 = bytes.fromhex(file.sha256)  # read once is enough
            changes: list[CommitOperation] = [*added, *map(CommitOperationDelete, gone)]
            # Not upload_folder, which may commit a large folder in steps and so show half a release.
            done = self.api.create_commit(
                **self.place, operations=changes, commit_message=message, revision=self.branch, parent_commit=head
            )
        except RuntimeError as cut:
            raise self._cut_off(cut.__cause__ or cut) from cut
        except ValueError as refused:
            raise PushError(self._clean(f"{self.repo_id}: the Hub refused it ({_brief(refused)})")) from refused
        return str(done.oid)

    def _check_arrived(self, files: Sequence[ReleaseFile], commit: str) -> None:
        if missing := _differing(files, self._tree(commit)):
            raise PushError(
                f"{self.repo_id}: commit {commit[:7]} has no {missing[0].name} of this content, so it got no tag; does a .gitignore there "
                "leave it out?"
            )

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """What the Hub answers otherwise than it should is told in one message, without an address or the token."""
        from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]  # httpx's or httpx2's

        try:
            yield
        except HfHubHTTPError as refused:
            raise PushError(self._clean(f"{self.repo_id}: {self._refusal(refused)}")) from refused
        except (HTTPError, OSError) as cause:
            raise self._cut_off(cause) from cause

    def _refusal(self, error: "HfHubHTTPError") -> str:
        status, said = error.response.status_code, _brief(error)
        ways = {
            401: "the token is not accepted; run `hf auth login`, or set HF_TOKEN to one that is valid",
            403: f"this login may not write there; take a token with the right to write to {self.repo_id.partition('/')[0]}",
            412: "somebody else committed meanwhile; run the same command again",
        }
        return f"{ways.get(status, 'the Hub refused; run the same command again later')} ({said})"

    def _cut_off(self, cause: BaseException) -> PushError | StoreError:
        if isinstance(cause, OSError) and cause.filename:  # the Hub has no part in it
            return StoreError(f"{cause.filename}: cannot be read or written ({cause.strerror})")
        return PushError(
            self._clean(
                f"{self.repo_id}: {self.api.endpoint} was not reached, or was cut off ({_brief(cause)}); run the same command again to "
                "go on: what has arrived is not sent again. Is HF_ENDPOINT right and HF_HUB_OFFLINE unset?"
            )
        )

    def _clean(self, text: str) -> str:
        return text.replace(str(self.api.token), "…")


def _brief(error: BaseException) -> str:
    """What went wrong, without the address of a request, which may carry a signature."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return f"{error.response.status_code}: {error.server_message or error.response.reason_phrase}"
    return str(error) or type(error).__name__


def _visibility(private: bool) -> str:
    return "private" if private else "public"


def _told(files: Sequence[ReleaseFile]) -> str:
    return f"{len(files)} files, {size_of(sum(file.size for file in files))}"
