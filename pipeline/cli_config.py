"""What a command begins with: the config that it names, and its plan."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.plan import Step

ConfigPath = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A config file, or a shipped one: configs/quickstart.yaml")
]
Changes = Annotated[
    list[str],
    typer.Option("--set", metavar="PATH=VALUE", help="Change a value of the config, e.g. steps.corpus.path=my.jsonl"),
]


def load(
    given: str,
    changes: list[str],
    *,
    remember: bool = False,
    change: "Callable[[Config], Config]" = lambda whole: whole,
) -> "tuple[Config, list[Step]]":
    """The config, changed, and its plan; `remember` keeps the digests of the files that it read."""
    from pipeline import config, digests, prompts, shipped
    from pipeline.plan import plan as plan_steps

    path = shipped.find_config(given)
    loaded = change(config.load(path, changes))
    folders = shipped.prompt_folders(path)
    content = digests.FileDigests(build_folder(loaded))
    try:
        steps = plan_steps(
            loaded.recipe,
            prompt=lambda name: prompts.load(name, folders),
            file=lambda name: shipped.find_file(name, path),
            content=content,
        )
    except OSError as cause:
        raise config.ConfigError(f"{cause.filename}: cannot be read ({cause.strerror})") from cause
    if remember:
        content.save()
    return loaded, steps


def build_folder(config: "Config") -> Path:
    """Where the outputs of a recipe are. Raises StoreError where that is in a store that cannot be reached."""
    from pipeline.objects import place

    runtime = config.runtime
    return _reached(place(runtime.root, runtime.store_patience_s, runtime.cache or "") / config.recipe.name)


def outputs(root: str) -> Path:
    """Where all outputs are, given on the command line. Raises as `build_folder` does."""
    from pipeline.objects import place

    return _reached(place(root))


def _reached(folder: Path) -> Path:
    from pipeline.objects import at_store, is_local

    if is_local(folder):
        return folder.resolve()
    at_store(folder).check()
    return folder
