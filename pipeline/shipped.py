"""Where configs, prompts and the files that configs name are looked for.

What the user has in the current folder comes first, then what stands beside the config, then what the package carries: in
a checkout the checkout itself, in an installed wheel the copies in it.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline import inputs
from pipeline.config import ConfigError


def root() -> Path:
    """The folder with the shipped `configs` and `prompts`."""
    package = Path(__file__).parent
    carried = package / "shipped"
    return carried if carried.is_dir() else package.parent


def find_config(given: str) -> Path:
    """A config file: as given, else among the shipped ones (`configs/quickstart.yaml`).

    Raises ConfigError where there is none.
    """
    for path in (Path(given), root() / given):
        if path.is_file():
            return path
    shipped = ", ".join(f"configs/{path.name}" for path in sorted((root() / "configs").glob("*.yaml")))
    raise ConfigError(f"{given}: no such file; these come along: {shipped}")


def prompt_folders(config: Path) -> list[Path]:
    return [Path("prompts"), config.parent / "prompts", root() / "prompts"]


def find_file(given: str, config: Path) -> Path:
    """A file or folder that a config names, absolute, or in an object store.

    Raises ConfigError where there is none.
    """
    if "://" in given:
        return inputs.find(given)
    beside = (folder / given for folder in prompt_folders(config))  # banks of texts stand with the prompts
    places: Sequence[Path] = [Path(given).expanduser(), config.parent / given, *beside]
    for path in places:
        if path.exists():
            return path.resolve()
    raise ConfigError(f"{given}: no such file or folder, neither here nor beside {config}")
