"""The data set card of a release: what is in it, how to load it, and how it came to be, in numbers that the build has.

It says no more than the build shows. Every word that comes of a config or of the data is escaped.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.release.built import LINEAGE, Contents
from pipeline.release.front import front_matter
from pipeline.release.lineage import AuditFound, Lineage, Made
from pipeline.release.loading import Planned, loading
from pipeline.release.markdown import escaped, table
from pipeline.release.mixed import mixed
from pipeline.release.origins import Asked, Origins, judges, origins
from pipeline.rows import SPLITS, Example
from pipeline.stages.base import Stage, stage_kind
from pipeline.stages.batches import Batches
from pipeline.stages.filter import Filter
from pipeline.stages.negatives import HardNegatives

REASONS = 3
"""How many reasons of a step's rejects are told; the others are in its folder."""


def card(lineage: Lineage, contents: Contents) -> str:
    """The text of README.md."""
    name, made_of, batches = str(lineage.recipe["name"]), origins(lineage, contents), planned(lineage, contents)
    sections = (
        _opening(name, contents, made_of, lineage),
        _order(batches),
        _loading(contents, batches),
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


def planned(lineage: Lineage, contents: Contents) -> Planned:
    """The rows of a batch, where the export found its rows in batches; a `mix` below a plan undoes it."""
    if not contents.batched:
        return None
    sizes = {stage.size for made in lineage.above() if isinstance(stage := made.step.stage, Batches)}
    return sizes.pop() if len(sizes) == 1 else 0


def _opening(name: str, contents: Contents, made_of: Origins, lineage: Lineage) -> Iterator[str]:
    splits = _by_split(contents)
    told = ", ".join(f"{count:,} {split}" for split, count in splits.items())
    yield f"# {escaped(name)}"
    yield ""
    yield from _warnings(made_of)
    yield (
        f"{contents.total:,} examples for training text-embedding models{f' ({told})' if len(splits) > 1 else ''}: a query"
        f"{_texts(contents.negatives, 'the hardest first' if _has_hardest_first(lineage) else '')}. Made by pairmill."
    )
    if any("score" in config.columns for config in contents.configs):
        yield "Pairs with a `score` are of every degree from 0 to 1; the others are pairs that fit."
    yield ""
    yield _written(made_of, is_filtered=any(_is_filter(made.step.stage) for made in lineage.above()))


def _texts(negatives: int, order: str) -> str:
    if not negatives:
        return " and a text that fits it"
    told = f", a text that fits it, and {negatives} that {'does' if negatives == 1 else 'do'} not"
    return f"{told}, {order}" if order and negatives > 1 else told


def _has_hardest_first(lineage: Lineage) -> bool:
    """Whether every step that made examples took the best-ranked hits: others give negatives in another order."""
    makers = [
        made.step.stage
        for made in lineage.above()
        if issubclass(made.step.row_type, Example)
        and not any(issubclass(given.row_type, Example) for given in made.step.above())
    ]
    return all(isinstance(stage, HardNegatives) and stage.choice == "top" for stage in makers)


def _is_filter(stage: Stage) -> bool:
    return isinstance(stage, Filter) and stage.keep == "passed"


def _order(batches: Planned) -> Iterator[str]:
    """What a trainer must know of the order of the rows, if anything."""
    if batches is not None:
        of = f" of {batches}" if batches else ""
        yield f"Rows of train stand in planned batches{of}: train on them in their order, without a shuffle."


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


def _written(made_of: Origins, *, is_filtered: bool) -> str:
    if made_of.written:
        checked = "They were filtered, not read by people" if is_filtered else "Neither filters nor people read them"
        return (
            f"Language models wrote {_listed(made_of.written)} for it (see Models). {checked}; "
            "expect errors, and what biases the models and the sources have."
        )
    if made_of.is_synthetic:
        return (
            f"{made_of.synthetic_rows:,} of its examples have the source `synthetic`: a language model wrote a part of each in "
            "an earlier build, whose release was read here."
        )
    return "No language model was asked to write for it in this build; its texts are those of its sources."


def _loading(contents: Contents, batches: Planned) -> Iterator[str]:
    yield "## Loading"
    yield ""
    yield "`.` is this folder; on the Hub, put the name of the data set in its place, and download files that are named by path."
    yield ""
    yield from loading(contents, batches)


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
            f"{_judge(judges(audit))} of negatives of `{'`, `'.join(audit.of)}` whether they answer after all: those with a score "
            f"`{escaped(fields['score'])}` above {fields['most']:g} do. The interval holds the rate in 95 of 100 samples; it "
            "knows nothing of the judge's own mistakes, nor of steps between that one and the release."
        )
        yield ""
        rows = ((one["group"], one["judged"], one["false"], *_interval(one)) for one in audit.groups)
        yield from table(("negatives", "judged", "false", "rate", "95 % interval"), rows, (1, 2, 3, 4))


def _judge(asked: Sequence[Asked]) -> str:
    """Who was asked, and what is to be thought of it where that is no judge."""
    named = _listed([f"`{one.name}`{f' ({escaped(one.model)})' if one.model else ''}" for one in asked])
    if any(one.is_echo for one in asked):
        return f"**These rates say nothing: `echo` stood in for the judge.** The judge {named} was asked"
    if any(one.is_bundled for one in asked):
        return f"**These rates say nothing: the judge is the small bundled model.** The judge {named} was asked"
    return f"The judge {named} was asked" if named else "A judge was asked"


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
    if not made_of.models:
        return
    yield "## Models"
    yield ""
    heads = ("name", "engine", "model", "revision", "sampling")
    kinds = ((one, str(getattr(one.engine, "kind", type(one.engine).__name__))) for one in made_of.models)
    yield from table(heads, ((one.name, kind, one.model, one.revision, one.sampling) for one, kind in kinds))
    yield ""
    asked = ((step, one.name, prompt, digest) for one in made_of.models for step, prompt, digest in one.by)
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
