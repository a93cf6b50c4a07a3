"""The data set card of a release: what is in it, how to load it, and how it came to be, in numbers that the build has.

It says no more than the build shows. Every word that comes of a config or of the data is escaped.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.release.built import LINEAGE, Contents
from pipeline.release.front import front_matter
from pipeline.release.lineage import AuditFound, Lineage, Made
from pipeline.release.loading import loading
from pipeline.release.markdown import escaped, table
from pipeline.release.mixed import mixed
from pipeline.release.origins import Origins, origins
from pipeline.rows import SPLITS
from pipeline.stages.base import stage_kind

REASONS = 3
"""How many reasons of a step's rejects are told; the others are in its folder."""


def card(lineage: Lineage, contents: Contents) -> str:
    """The text of README.md."""
    name, made_of = str(lineage.recipe["name"]), origins(lineage, contents)
    sections = (
        _opening(name, contents, made_of),
        _order(lineage),
        _loading(contents),
        _counts(contents),
        mixed(lineage.mixes),
        _audited(lineage.audits),
        _sources(made_of),
        _models(made_of),
        _funnel(list(lineage.above())),
        _files(),
    )
    body = "\n\n".join("\n".join(lines).strip() for section in sections if (lines := list(section)))
    return f"{front_matter(name, contents, made_of)}\n{body}\n"


def _opening(name: str, contents: Contents, made_of: Origins) -> Iterator[str]:
    splits = _by_split(contents)
    told = ", ".join(f"{count:,} {split}" for split, count in splits.items())
    yield f"# {escaped(name)}"
    yield ""
    yield from _warnings(made_of)
    yield (
        f"{contents.total:,} examples for training text-embedding models{f' ({told})' if len(splits) > 1 else ''}: a query, a text "
        f"that fits it, and {contents.negatives} that {'does' if contents.negatives == 1 else 'do'} not, the hardest first. "
        "Made by pairmill."
    )
    if any("score" in config.columns for config in contents.configs):
        yield "Pairs with a `score` are of every degree from 0 to 1; the others are pairs that fit."
    yield ""
    yield _written(made_of)


def _order(lineage: Lineage) -> Iterator[str]:
    """What a trainer must know of the order of the rows, if anything."""
    for made in lineage.above():
        if stage_kind(made.step.stage) == "batches":
            size = made.step.identity.get("size")
            yield f"Rows of train stand in planned batches of {size}: train on them in their order, without a shuffle."


def _warnings(made_of: Origins) -> Iterator[str]:
    if made_of.is_demonstration:
        yield (
            "> **A demonstration, not to be trained on.** The model asked is the bundled one of 135 million parameters, which "
            "proves that the recipe runs. What it writes and what it judges is often wrong."
        )
        yield ""
    if made_of.is_dry_run:
        yield "> **A dry run, not to be trained on.** The engine `echo` stood in for a model: it puts words of a text together."
        yield ""


def _written(made_of: Origins) -> str:
    if made_of.written:
        return (
            f"Language models wrote {_listed(made_of.written)} for it (see Models). They were filtered, not read by people; "
            "expect errors, and what biases the models and the sources have."
        )
    if made_of.is_synthetic:
        return (
            f"{made_of.synthetic_rows:,} of its examples have the source `synthetic`: a language model wrote a part of each in "
            "an earlier build, whose release was read here."
        )
    return "No language model was asked to write for it in this build; its texts are those of its sources."


def _loading(contents: Contents) -> Iterator[str]:
    yield "## Loading"
    yield ""
    yield "`.` is this folder; on the Hub, put the name of the data set in its place, and download files that are named by path."
    yield ""
    yield from loading(contents)


def _counts(contents: Contents) -> Iterator[str]:
    splits = [split for split in dict.fromkeys((*SPLITS, *_by_split(contents))) if split in _by_split(contents)]
    groups: dict[tuple[str, ...], Counter[str]] = {}
    for rows in contents.rows:
        key = rows.source, rows.task, rows.query_language, rows.positive_language
        groups.setdefault(key, Counter())[rows.split] += rows.rows
    heads = ("source", "task", "query", "positive", *splits)
    yield "## What is in it"
    yield ""
    lines = ((*key, *(counts[split] for split in splits)) for key, counts in sorted(groups.items()))
    yield from table(heads, lines, range(4, len(heads)))


def _by_split(contents: Contents) -> Counter[str]:
    found: Counter[str] = Counter()
    for rows in contents.rows:
        found[rows.split] += rows.rows
    return found


def _audited(audits: Sequence[AuditFound]) -> Iterator[str]:
    if audits:
        yield "## False negatives"
    for audit in audits:
        fields = audit.step.stage.model_dump()
        yield ""
        yield (
            f"A judge was asked of negatives of `{'`, `'.join(audit.of)}` whether they answer after all: those with a score "
            f"`{escaped(fields['score'])}` above {fields['most']:g} do. The interval holds the rate in 95 of 100 samples; it "
            "knows nothing of the judge's own mistakes, nor of steps between that one and the release."
        )
        yield ""
        rows = ((one["group"], one["judged"], one["false"], *_interval(one)) for one in audit.groups)
        yield from table(("negatives", "judged", "false", "rate", "95 % interval"), rows, (1, 2, 3, 4))


def _interval(group: Mapping[str, Any]) -> tuple[str, str]:
    rate = "" if group["rate"] is None else f"{group['rate']:.1%}"
    return rate, f"{group['low']:.1%} to {group['high']:.1%}"


def _sources(made_of: Origins) -> Iterator[str]:
    if not made_of.sources:
        return
    yield "## Sources"
    yield ""
    rows = (
        (one.step, one.kind, one.name, one.content, (one.license or "not given") if one.is_read else "")
        for one in made_of.sources
    )
    yield from table(("step", "kind", "name", "content or revision", "licence"), rows)
    yield ""
    yield "Licences are as the recipe gives them. They bind what is made of the texts, and a model's own licence may bind what it wrote."


def _models(made_of: Origins) -> Iterator[str]:
    if not made_of.asked:
        return
    yield "## Models"
    yield ""
    heads = ("name", "engine", "model", "revision", "sampling")
    kinds = ((one, str(getattr(one.engine, "kind", type(one.engine).__name__))) for one in made_of.asked)
    yield from table(heads, ((one.name, kind, one.model, one.revision, one.sampling) for one, kind in kinds))
    yield ""
    asked = ((step, one.name, prompt, digest) for one in made_of.asked for step, prompt, digest, _ in one.by)
    yield from table(("step", "asks", "with the prompt", "digest"), asked)


def _funnel(made: Sequence[Made]) -> Iterator[str]:
    yield "## From rows to release"
    yield ""
    rows = (
        (one.step.name, stage_kind(one.step.stage), one.rows_in, one.rows, sum(one.rejects.values()), _reasons(one))
        for one in made
        if one.rows_in or one.rows
    )
    yield from table(("step", "stage", "in", "out", "rejected", "most often because"), rows, (2, 3, 4))


def _reasons(made: Made) -> str:
    most = sorted(made.rejects.items(), key=lambda item: (-item[1], item[0]))
    told = ", ".join(f"{reason} {count:,}" for reason, count in most[:REASONS])
    return f"{told}, …" if len(most) > REASONS else told


def _files() -> Iterator[str]:
    yield "## Files"
    yield ""
    yield (
        f"`{LINEAGE}` has the recipe and, of every step, its fingerprint, what went into that, and its rejects by reason. "
        "`croissant.json` describes the files to machines. `sha256sum -c SHA256SUMS` checks them."
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
