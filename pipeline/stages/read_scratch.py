"""What a reader has to look up and cannot hold: a file of SQLite beside its output, gone when the reader is done.

A source says in one place what belongs to a row in another: qrels name passages of a corpus, and a contradiction belongs
to all that its premise entails. Memory holds SQLite's cache of a few megabytes, whatever the size of the source.
"""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pipeline.stages.base import StageError


@contextmanager
def scratch(folder: Path) -> Iterator[sqlite3.Connection]:
    """An empty data base in a folder. Raises StageError where the disk does not take what is filed there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".read-{secrets.token_hex(4)}.sqlite"
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE", "cache_size = -65536"):
                connection.execute(f"PRAGMA {pragma}")
            yield connection
    except sqlite3.OperationalError as cause:
        raise StageError(f"{path}: cannot be written ({cause}); is the disk of runtime.root full?") from cause
    finally:
        path.unlink(missing_ok=True)
