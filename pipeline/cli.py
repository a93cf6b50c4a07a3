"""The command line: the only place that prints.

Exit codes: 0 done; 1 a fault of ours (with its trace in the log); 2 a config, prompt or argument that cannot be used; 3 a
step rejected more than it may; 4 an engine did not start or failed; 5 the outputs cannot be read or written, or are in use;
6 a step cannot go on with the data it has; 130 interrupted (run again to go on).
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from pipeline import __version__

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.plan import Step

app = typer.Typer(
    name="pairmill",
    help="Documents become training data for text-embedding models.",
    epilog="Exit codes: 0 done, 2 config, 3 too many rejects, 4 engine, 5 outputs, 6 data, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigPath = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A config file, or a shipped one: configs/quickstart.yaml")
]
Changes = Annotated[
    list[str],
    typer.Option("--set", metavar="PATH=VALUE", help="Change a value of the config, e.g. steps.corpus.path=my.jsonl"),
]


def main() -> None:
    """The command `pairmill`."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pairmill {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command(epilog="Example: pairmill plan configs/quickstart.yaml --set 'engines.writer={kind: echo}'")
def plan(config: ConfigPath, changes: Changes = [], as_json: Annotated[bool, typer.Option("--json")] = False) -> None:  # noqa: B006 - typer's way
    """What would run, why, and how much it would ask. Starts nothing and writes nothing."""
    with _mistakes():
        loaded, steps = _load(config, changes)
        lines = [_planned(step, _build_folder(loaded)) for step in steps]
        if as_json:
            typer.echo(json.dumps(lines, indent=1))
            return
        widths = [max(len(str(line[key])) for line in lines) for key in ("step", "stage", "rows")]
        for line in lines:
            typer.echo(
                f"{line['step']:<{widths[0]}}  {line['stage']:<{widths[1]}}  {line['rows']:>{widths[2]}}  {line['state']}"
                + (f": {line['why']}" if line["why"] else "")
            )
        asks = [line["requests"] for line in lines if line["requests"] is not None]
        unknown = any(line["requests"] is None and line["stage"] == "generate" for line in lines)
        typer.echo(
            f"\nRequests to a model: {'at most ' if asks else ''}{sum(asks):,}{' and what is not known before its input is made' if unknown else ''}"
        )


def _planned(step: "Step", build: Path) -> dict[str, Any]:
    from pipeline.plan import most_rows, stage_kind, why_stale

    artifact = step.artifact(build)
    rows = most_rows(step, build)
    parts = len(artifact.part_numbers())
    state = "reuse" if artifact.is_committed else "resume" if parts else "run"
    why = "" if artifact.is_committed else f"{parts} parts are there" if parts else why_stale(step, build)
    said = "?" if rows is None else f"{rows:,}" if artifact.is_committed else f"≤{rows:,}"
    requests = (0 if artifact.is_committed else rows) if step.engine else 0
    return {
        "step": step.name,
        "stage": stage_kind(step.stage),
        "rows": said,
        "state": state,
        "why": why,
        "requests": requests,
    }


@app.command(epilog="Example: pairmill run configs/quickstart.yaml --set steps.corpus.path=my.jsonl")
def run(
    config: ConfigPath,
    changes: Changes = [],  # noqa: B006 - typer's way
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the table at the end alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line for every step.")] = False,
) -> None:
    """Build the data set: what is committed is reused, the rest is made."""
    with _mistakes():
        loaded, steps = _load(config, changes)
        folder = _build_folder(loaded)
        from pipeline.progress import JsonLines, Progress
        from pipeline.runner import Build

        with _chatter_to(folder) as (out, log):
            watcher = JsonLines(out) if as_json else Progress([step.name for step in steps], out, quiet=quiet)
            if isinstance(watcher, Progress) and not quiet:
                print(f"Ray's and the engine's own messages go to {log}", file=out)
            try:
                Build(loaded, steps, folder, watcher).run()
            except Exception as error:
                if not _is_known(error):
                    traceback.print_exc()  # to the log, where our standard error goes for now
                    print(f"pairmill: {type(error).__name__}: the fault is ours; its trace is in {log}", file=out)
                    raise typer.Exit(1) from error
                raise
            except KeyboardInterrupt:
                print(f"\nStopped. What is committed in {folder} stays; run the same command again to go on.", file=out)
                raise typer.Exit(130) from None
            if isinstance(watcher, Progress):
                print(f"\n{watcher.table()}", file=out)
                for release in _releases(steps, folder):
                    print(f"\nThe release is in {release}", file=out)


def _releases(steps: "list[Step]", folder: Path) -> list[Path]:
    from pipeline.exporters.export import Export

    return [step.artifact(folder).built for step in steps if isinstance(step.stage, Export)]


@app.command(epilog="Example: pairmill show quickstart clean --rejects -n 20")
def show(  # noqa: PLR0913 - the options of a command
    build: Annotated[str, typer.Argument(metavar="BUILD", help="A recipe's name, or the folder of its outputs.")],
    step: Annotated[str, typer.Argument(metavar="STEP", help="The name of a step.")],
    rejects: Annotated[bool, typer.Option("--rejects", help="Show what was rejected, and why.")] = False,
    count: Annotated[int, typer.Option("-n", min=1, help="How many rows.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    root: Annotated[str, typer.Option(help="The folder of all outputs.")] = "outputs",
) -> None:
    """Read a few rows of a step, or of its rejects, evenly from the whole."""
    with _mistakes():
        from pipeline.show import as_json as row_as_json
        from pipeline.show import find, sample, told

        artifact = find(build, step, Path(root))
        for number, row in enumerate(sample(artifact, count, rejects=rejects), start=1):
            typer.echo(row_as_json(row) if as_json else f"{number}.\n{told(row)}\n")


@app.command(epilog="Example: pairmill status quickstart")
def status(
    build: Annotated[str, typer.Argument(metavar="BUILD", help="A recipe's name, or the folder of its outputs.")],
    root: Annotated[str, typer.Option(help="The folder of all outputs.")] = "outputs",
) -> None:
    """What a build has committed, and what is under way."""
    with _mistakes():
        from pipeline.show import status_lines

        for line in status_lines(build, Path(root)):
            typer.echo(line)


def _load(given: str, changes: list[str]) -> "tuple[Config, list[Step]]":
    from pipeline import config, digest, prompts, shipped
    from pipeline.plan import plan as plan_steps

    path = shipped.find_config(given)
    loaded = config.load(path, changes)
    folders = shipped.prompt_folders()
    steps = plan_steps(
        loaded.recipe,
        prompt=lambda name: prompts.load(name, folders),
        file=lambda name: shipped.find_file(name, path),
        content=digest.digest_path,
    )
    return loaded, steps


def _build_folder(config: "Config") -> Path:
    return (Path(config.runtime.root).expanduser() / config.recipe.name).resolve()


@contextmanager
def _chatter_to(folder: Path) -> Iterator[tuple[TextIO, Path]]:
    """Send all that is printed, by libraries and their processes too, to a log file; give the real output to us."""
    from pipeline.store import StoreError

    log = folder / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("ab", buffering=0)
    except OSError as cause:
        raise StoreError(
            f"{folder}: cannot be written ({cause.strerror}); set runtime.root to a folder that can"
        ) from cause
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    with file, os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace", buffering=1) as out:
        try:
            for number in kept:
                os.dup2(file.fileno(), number)
            yield out, log
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, saved in kept.items():
                os.dup2(saved, number)
                os.close(saved)


EXIT_CODES = {
    "ConfigError": 2,
    "PromptError": 2,
    "BudgetError": 3,
    "EngineError": 4,
    "MissingExtra": 4,
    "StoreError": 5,
    "StageError": 6,
}
"""By name, since the modules of some import what is slow to import."""


def _is_known(error: Exception) -> bool:
    return type(error).__name__ in EXIT_CODES


@contextmanager
def _mistakes() -> Iterator[None]:
    """A user's mistake is told in one message, without a trace."""
    try:
        yield
    except Exception as error:
        if not _is_known(error):
            raise
        typer.echo(f"pairmill: {error}", err=True)
        raise typer.Exit(EXIT_CODES[type(error).__name__]) from None
