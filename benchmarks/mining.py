"""Hard negatives: how fast they are mined, how good the search is, and whether what is called a negative is one.

    python -m benchmarks.mining --data FOLDER
    python -m benchmarks.mining --data FOLDER --only speed --work FOLDER
    python -m benchmarks.mining --data FOLDER --only million --work FOLDER

FOLDER holds collections in the layouts of XQuAD (as BEIR), Tatoeba and STS. Everything but the million runs without
`--only`. Made text is kept in the work folder from one run to the next. The million pairs need such a folder: a run that
was stopped goes on there when the same command is given again.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

PARTS: Mapping[str, str] = {
    "speed": "mining_speed",
    "quality": "mining_quality",
    "safety": "mining_safety",
    "bitext": "mining_safety",
    "guards": "mining_guards",
    "million": "mining_speed",
}
"""What can be shown: each is a function of that name in this module, which is imported when its turn comes."""


def main() -> None:
    given = _parser().parse_args()
    if given.only == "million" and not given.work:
        sys.exit("--only million needs --work FOLDER, where a run that was stopped can go on; it takes about 6 GB")
    parts = [given.only] if given.only else [name for name in PARTS if name != "million"]
    with ExitStack() as scratch:
        work = given.work or Path(scratch.enter_context(tempfile.TemporaryDirectory(prefix="pairmill-mining-")))
        more = {"speed": (work, given.sizes, given.systems, given.most), "million": (work,)}
        try:
            for name in parts:
                getattr(import_module(f"benchmarks.{PARTS[name]}"), name)(given.data, *more.get(name, ()))
        except KeyboardInterrupt:
            sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True, help="the folder that holds xquad/, tatoeba/ and sts/")
    arguments.add_argument("--only", choices=list(PARTS), help="show this part alone")
    arguments.add_argument("--work", type=Path, help="keep made text, and the million's outputs, here")
    arguments.add_argument(
        "--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="speed: documents"
    )
    arguments.add_argument("--systems", nargs="+", default=[], help="speed: these alone")
    arguments.add_argument("--most", type=int, help="speed: at most so many queries a system, for a trial")
    return arguments


if __name__ == "__main__":
    main()
