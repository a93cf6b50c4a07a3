"""The command `pairmill status`."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated

import typer

from pipeline.cli_config import outputs

LOOK_S = 2.0
CLEAR = "\x1b[H\x1b[2J"


def add_status(app: typer.Typer, mistakes: Callable[[], AbstractContextManager[None]]) -> None:
    """Give the command line its `status`; a user's mistakes are told by `mistakes`."""

    @app.command(epilog="Example: pairmill status quickstart --watch")
    def status(
        build: Annotated[str, typer.Argument(metavar="BUILD", help="A recipe's name, or the folder of its outputs.")],
        root: Annotated[str, typer.Option(help="Where all outputs are.")] = "outputs",
        as_json: Annotated[
            bool, typer.Option("--json", help="Print one JSON object, with --watch one a line.")
        ] = False,
        watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds, until it ends.")] = False,
    ) -> None:
        """How a build stands: its driver, each step's parts, rows, rate and time left, and engines alive; from any machine."""
        with mistakes():
            from pipeline.status import status as status_of
            from pipeline.status import told

            while True:
                found = status_of(build, outputs(root))
                text = json.dumps(found.as_json(), ensure_ascii=False) if as_json else "\n".join(told(found))
                if watch and not as_json:
                    typer.echo(CLEAR, nl=False)  # which click leaves out where nobody looks on
                if text:
                    typer.echo(text)
                if not watch or found.run != "running":
                    return
                time.sleep(LOOK_S)
