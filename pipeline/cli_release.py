"""The command `pairmill release`."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Annotated

import typer

from pipeline.cli_config import Changes, ConfigPath, build_folder, load


def today() -> str:
    """The day by which a release is called that nobody gave a name: this one, in UTC."""
    return datetime.now(UTC).date().isoformat()


def add_release(app: typer.Typer, mistakes: Callable[[], AbstractContextManager[None]]) -> None:
    """Give the command line its `release`; a user's mistakes are told by `mistakes`."""

    @app.command(epilog="Example: pairmill release configs/quickstart.yaml --name 1.0")
    def release(
        config: ConfigPath,
        name: Annotated[str | None, typer.Option(help="What to call it; else the day, unless it is released.")] = None,
        changes: Changes = [],  # noqa: B006 - typer's way
    ) -> None:
        """Place a finished build's exports as folders that never change, with card, lineage and checksums."""
        with mistakes():
            from pipeline.release.place import check_finished, place_named, place_new

            loaded, steps = load(config, changes)
            folder = build_folder(loaded)
            check_finished(steps, folder)
            if name is None:
                placed = place_new(loaded.recipe, steps, folder, today())
            else:
                placed = place_named(loaded.recipe, steps, folder, name)
            for release in placed:
                typer.echo(f"The release is in {release}")
