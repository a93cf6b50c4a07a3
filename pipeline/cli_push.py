"""The command `pairmill push`."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated

import typer

from pipeline.checksums import at_hand, find_release
from pipeline.cli_config import outputs
from pipeline.push import push as push_release


def add_push(app: typer.Typer, mistakes: Callable[[], AbstractContextManager[None]]) -> None:
    """Give the command line its `push`; a user's mistakes are told by `mistakes`."""

    @app.command(epilog="Example: pairmill push docs-en me/my-dataset --dry-run")
    def push(  # noqa: PLR0913 - the options of a command
        release: Annotated[
            str, typer.Argument(metavar="RELEASE", help="A release's folder, or a recipe's name for its newest.")
        ],
        repository: Annotated[str, typer.Argument(metavar="ACCOUNT/NAME", help="The data set on the Hub.")],
        public: Annotated[bool, typer.Option("--public", help="Everybody may read it; else it is private.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; ask and send nothing.")] = False,
        branch: Annotated[str, typer.Option(help="The branch that the commit goes on.")] = "main",
        message: Annotated[str | None, typer.Option("--message", "-m", help="The commit's message.")] = None,
        root: Annotated[str, typer.Option(help="Where all outputs are.")] = "outputs",
    ) -> None:
        """Put a release on the Hugging Face Hub: one commit, and a tag of its name. Log in with `hf auth login` or HF_TOKEN."""
        with mistakes():
            if not sys.stderr.isatty():
                _without_bars()
            with at_hand(find_release(release, outputs(root))) as folder:
                sent = push_release(
                    folder, repository, private=not public, revision=branch, message=message, dry_run=dry_run
                )
                for line in sent:
                    typer.echo(line)


def _without_bars() -> None:
    """The Hub's progress bars are for a person who looks on."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # exported in its documentation alone

    disable_progress_bars()
