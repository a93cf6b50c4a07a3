"""The command line: the only place that prints.

Exit codes: 0 done; 1 a fault of ours (with its trace in the log); 2 a config, prompt or argument that cannot be used; 3 a
step rejected more than it may; 4 an engine did not start or failed; 5 the outputs cannot be read or written, or are in use;
6 a step cannot go on with the data it has; 7 the Hub refused or was not reached; 130 interrupted, 143 told to end by SIGTERM (run again to go on).
"""

import json
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from pipeline import __version__
from pipeline.cli_config import Changes, ConfigPath, build_folder, load, outputs
from pipeline.cli_push import add_push
from pipeline.cli_release import add_release, today
from pipeline.cli_status import add_status

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.plan import Step
    from pipeline.watcher import Watcher

LogJson = Annotated[bool, typer.Option("--log-json", help="Write the log as JSON lines; runtime.log: json does too.")]

app = typer.Typer(
    name="pairmill",
    help="Documents become training data for text-embedding models.",
    epilog="Exit codes: 0 done, 2 config, 3 too many rejects, 4 engine, 5 outputs, 6 data, 7 hub, 130 interrupted, 143 ended.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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
    """What would run, why, and what it would ask and cost. Starts nothing and writes nothing."""
    with _mistakes():
        from pipeline.objects import looked_over
        from pipeline.planned import planned, table

        loaded, steps = load(config, changes)
        build = looked_over(build_folder(loaded))
        lines = [planned(step, build, loaded.engine_runtime) for step in steps]
        if as_json:
            typer.echo(json.dumps([line.as_json() for line in lines], indent=1))
            return
        for text in table(lines):
            typer.echo(text)


@app.command(epilog="Example: pairmill run configs/quickstart.yaml --set steps.corpus.path=my.jsonl")
def run(
    config: ConfigPath,
    changes: Changes = [],  # noqa: B006 - typer's way
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the table at the end alone.")] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print a JSON object a line for every step, what is told meanwhile, and the release."
        ),
    ] = False,
    log_json: LogJson = False,
) -> None:
    """Build the data set: what is committed is reused, the rest is made."""
    with _mistakes():
        loaded, steps = load(config, [*changes, *_logging(log_json)], remember=True)
        folder = build_folder(loaded)
        _build(loaded, steps, folder, quiet=quiet, as_json=as_json)


@app.command(epilog="Example: pairmill pilot configs/multilingual.yaml -n 40")
def pilot(
    config: ConfigPath,
    count: Annotated[int, typer.Option("-n", min=1, help="How many seeds for each step that asks first.")] = 500,
    changes: Changes = [],  # noqa: B006 - typer's way
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the yields and the forecast alone.")] = False,
    log_json: LogJson = False,
) -> None:
    """Build from a sample of the seeds, and forecast from its yields what the whole would give."""
    with _mistakes():
        from pipeline.pilot import askings, pilot_of, told, uncalibrated
        from pipeline.yields import yields as yields_of

        loaded, steps = load(
            config, [*changes, *_logging(log_json)], remember=True, change=lambda whole: pilot_of(whole, count)
        )
        folder = build_folder(loaded)
        _build(loaded, steps, folder, quiet=quiet, is_pilot=True)
        typer.echo()
        asked = list(askings(steps, folder, loaded.engine_runtime))
        for line in told(yields_of(steps, folder), asked, uncalibrated=uncalibrated(steps, folder)):
            typer.echo(line)


@app.command(epilog="Example: pairmill yields configs/multilingual.yaml")
def yields(config: ConfigPath, changes: Changes = []) -> None:  # noqa: B006 - typer's way
    """What became of the requests of a finished build, by task and language."""
    with _mistakes():
        from pipeline.plan import check_made
        from pipeline.yields import told_yields
        from pipeline.yields import yields as yields_of

        loaded, steps = load(config, changes)
        folder = build_folder(loaded)
        check_made(steps, folder)
        for line in told_yields(yields_of(steps, folder)):
            typer.echo(line)


@app.command(epilog="Example: pairmill languages sr-Latn zh-Hant")
def languages(
    tags: Annotated[list[str] | None, typer.Argument(metavar="[TAG]...", help="Some of them, or any others.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """The 93 languages of `xlm-r`, or those of these tags."""
    with _mistakes():
        from pipeline.languages import expanded, listed
        from pipeline.tables import aligned

        rows = list(listed(expanded(tags or ["xlm-r"])))
        if as_json:
            typer.echo("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
            return
        shown = [
            tuple(rows[0]),
            *(tuple(f"{value:,}" if isinstance(value, int) else value for value in row.values()) for row in rows),
        ]
        # The autonym goes last: no terminal agrees with another on how wide its letters are.
        ordered = [(tag, name, script, *rest, autonym) for tag, name, autonym, script, *rest in shown]
        for line in aligned(ordered, [ordered[0].index("speakers")]):
            typer.echo(line)


def _build(  # noqa: PLR0913 - the options of two commands
    config: "Config",
    steps: "list[Step]",
    folder: Path,
    *,
    quiet: bool = False,
    as_json: bool = False,
    is_pilot: bool = False,
) -> None:
    """Run the steps and show how it goes; a pilot has its own to show at the end, and its release is none."""
    from pipeline.objects import local_part
    from pipeline.progress import JsonLines, Progress
    from pipeline.release.place import place_new
    from pipeline.terminal import chatter_to

    with chatter_to(local_part(folder), json_lines=config.runtime.log == "json") as (out, err, log):
        watcher = JsonLines(out) if as_json else Progress([step.name for step in steps], out, quiet=quiet)
        if not (as_json or quiet):
            print(f"Ray's and the engine's own messages go to {log}", file=out)
        with _guarded(folder, err, log):
            from pipeline.runner import Build

            Build(config, steps, folder, _watched(watcher, steps, folder)).run()
        if isinstance(watcher, Progress) and not (is_pilot and quiet):
            print(f"\n{watcher.table()}", file=out)
        with _guarded(folder, err, log):
            placed = [] if is_pilot else place_new(config.recipe, steps, folder, today())
        for release in placed:
            if isinstance(watcher, JsonLines):
                watcher.released(release)
            else:
                print(f"\nThe release is in {release}", file=out)


def _watched(watcher: "Watcher", steps: "Sequence[Step]", folder: Path) -> "Watcher":
    """A watcher, and with it those that leave word for other machines, Prometheus and the log."""
    from pipeline.metrics import Metrics
    from pipeline.progress import LogLines
    from pipeline.record import Record
    from pipeline.watcher import Together

    asking = {step.name for step in steps if step.engines}
    return Together([Record(folder, steps), LogLines(folder.name), Metrics(folder.name, asking), watcher])


def _logging(as_json: bool) -> list[str]:
    return ["runtime.log=json"] if as_json else []


@contextmanager
def _guarded(folder: Path, err: TextIO, log: Path) -> Iterator[None]:
    """How a build may end otherwise than done is told on `err`."""
    from pipeline.interrupts import Terminated, ended_by

    try:
        yield
    except (KeyboardInterrupt, Exception) as met:  # noqa: BLE001 - the boundary: how it ends is told below
        error = ended_by() or met  # a library may make another error of an interrupt
        if not isinstance(error, Exception):
            print(f"\nStopped. What is committed in {folder} stays; run the same command again to go on.", file=err)
            raise typer.Exit(143 if isinstance(error, Terminated) else 130) from None
        traceback.print_exc()  # to the log, where our standard error goes for now
        if (code := _exit_code(error)) is None:
            print(f"\npairmill: {type(error).__name__}: the fault is ours; its trace is in {log}", file=err)
            raise typer.Exit(1) from error
        print(f"\npairmill: {error}\n(all messages are in {log})", file=err)
        raise typer.Exit(code) from None


@app.command(epilog="Example: pairmill show quickstart clean --rejects -n 20")
def show(  # noqa: PLR0913 - the options of a command
    build: Annotated[str, typer.Argument(metavar="BUILD", help="A recipe's name, or the folder of its outputs.")],
    step: Annotated[str, typer.Argument(metavar="STEP", help="The name of a step.")],
    rejects: Annotated[bool, typer.Option("--rejects", help="Show what was rejected, and why.")] = False,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Show what its checks did, or what its scores mean.")
    ] = False,
    count: Annotated[int, typer.Option("-n", min=1, help="How many rows.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    root: Annotated[str, typer.Option(help="Where all outputs are.")] = "outputs",
) -> None:
    """Read a few rows of a step, or of its rejects, evenly from the whole; or its ledger."""
    with _mistakes():
        from pipeline.show import as_json as row_as_json
        from pipeline.show import find, ledger_lines, sample, told

        artifact = find(build, step, outputs(root))
        if ledger:
            typer.echo("\n".join(ledger_lines(artifact)))
            return
        for number, row in enumerate(sample(artifact, count, rejects=rejects), start=1):
            typer.echo(row_as_json(row) if as_json else f"{number}.\n{told(row)}\n")


EXIT_CODES = {
    "ConfigError": 2,
    "UnknownLanguageError": 2,
    "PromptError": 2,
    "BudgetError": 3,
    "EngineError": 4,
    "MissingExtra": 4,
    "StoreError": 5,
    "StageError": 6,
    "PushError": 7,
}
"""By name, since the modules of some import what is slow to import."""


def _exit_code(error: Exception) -> int | None:
    """The code of an error that is a user's to mend, else None."""
    return next((EXIT_CODES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in EXIT_CODES), None)


@contextmanager
def _mistakes() -> Iterator[None]:
    """A user's mistake is told in one message, without a trace; an interrupt ends with its own code."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        typer.echo(f"pairmill: {error}", err=True)
        raise typer.Exit(code) from None


add_status(app, _mistakes)
add_release(app, _mistakes)
add_push(app, _mistakes)
