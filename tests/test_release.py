import hashlib
import html
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import Result
from conftest import commit, example, planned
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from pipeline import cli
from pipeline.checksums import release_files
from pipeline.config import Config, ConfigError, from_mapping
from pipeline.exporters.export import Export
from pipeline.exporters.formats import FORMATS
from pipeline.plan import Step
from pipeline.release.built import CONTENTS, read_contents
from pipeline.release.front import size_of
from pipeline.release.markdown import escaped, table
from pipeline.release.place import place_named, place_new
from pipeline.rows import Example, to_table
from pipeline.stages.audit import Audit, Audited
from pipeline.stages.base import Context
from pipeline.store import Stats, StoreError

DAY = "2026-11-28"
HOSTILE = "a|b`c`*d*_e_ [f](http://x.y) <script>alert(1)</script>\n\n# g\n---\n~~h~~ &amp; www.evil.example $i$ :smile: \u202e\x1b[31m"
WRITER = {"kind": "vllm", "model": "ORG/Writer", "revision": "a" * 40, "sampling": {"temperature": 0.5}}
BUNDLED = {"kind": "vllm", "model": "bundled:SmolLM2-135M-Instruct"}

WRITES: dict[str, Any] = {
    "corpus": {"kind": "read_jsonl", "path": "docs.jsonl"},
    "queries": {
        "kind": "generate",
        "input": "corpus",
        "prompt": "write_query",
        "engine": "writer",
        "facets": {"style": "a question"},
    },
    "pairs": {"kind": "parse_query", "input": "queries"},
}
BRINGS: dict[str, Any] = {
    "corpus": {"kind": "read_jsonl", "path": "docs.jsonl"},
    "pairs": {"kind": "read_pairs", "path": "pairs.jsonl", "instruction": "Find the passage"},
}
MINES: dict[str, Any] = {
    "hits": {"kind": "search", "pairs": "pairs", "corpus": "corpus"},
    "examples": {"kind": "hard_negatives", "hits": "hits", "take": 1},
}
AUDITS: dict[str, Any] = {
    "negative_pairs": {"kind": "negative_pairs", "input": "examples"},
    "verdicts": {"kind": "generate", "input": "negative_pairs", "prompt": "judge", "engine": "writer"},
    "judged": {"kind": "parse_verdict", "input": "verdicts"},
    "audit": {"kind": "audit", "input": "judged"},
}
EXPORTS: dict[str, Any] = {"tuples": {"kind": "export", "input": "examples"}}


@dataclass
class Build:
    """A recipe whose steps are all committed, as an export would have left them, without any having been run."""

    root: Path
    recipe: dict[str, Any] = field(default_factory=lambda: {**WRITES, **MINES, **EXPORTS})
    engines: dict[str, Any] = field(default_factory=lambda: {"writer": WRITER})
    contents: dict[str, Any] = field(default_factory=dict)
    stats: dict[str, Stats] = field(default_factory=dict)
    files: str = "docs.jsonl"

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        for name in {"docs.jsonl", "pairs.jsonl", self.files}:
            (self.root / name).write_text('{"text": "a"}\n')
        self.recipe = {**self.recipe, "corpus": {**self.recipe["corpus"], "path": str(self.root / self.files)}}
        self.config: Config = from_mapping(
            {
                "recipe": {"name": "small", "engines": self.engines, "steps": self.recipe},
                "runtime": {"root": str(self.root / "outputs")},
            }
        )
        self.steps = list(planned(self.config, self.root / "config.yaml").values())
        self.folder = self.root / "outputs" / "small"

    def finished(self) -> "Build":
        for step in self.steps:
            self.finish(step)
        return self

    def finish(self, step: Step) -> None:
        artifact = step.artifact(self.folder)
        if isinstance(step.stage, Export):
            export(artifact.built, self.contents)
        if isinstance(step.stage, Audit):
            artifact.write_part(0, to_table(Audited, AUDITED), [], Stats(2, 2))
        manifest = {"step": step.name, "rows": step.row_type.__name__, "seconds": 1.5, "pairmill": "9.9"}
        artifact.commit(manifest, self.stats.get(step.name, Stats(5, 4, {"too_short": 1})))

    def built(self, name: str = "tuples") -> Path:
        return next(step.artifact(self.folder).built for step in self.steps if step.name == name)

    def place(self, day: str = DAY) -> list[Path]:
        return place_new(self.config.recipe, self.steps, self.folder, day)

    def name(self, name: str) -> list[Path]:
        return place_named(self.config.recipe, self.steps, self.folder, name)

    def released(self) -> Path:
        return self.finished().place()[0]

    def card(self) -> str:
        return (self.released() / "README.md").read_text("utf-8")


AUDITED = [
    Audited("all", 200, 8, 0.04, 0.0204, 0.0769, 9.5, 0.0475),
    Audited("task retrieval", 200, 8, 0.04, 0.0204, 0.0769, 9.5, 0.0475),
]


def rows_of(split: str) -> list[dict[str, str]]:
    return [
        {
            "anchor": f"{split} query {number}\u2028é",
            "positive": f"positive {number}\n",
            "negative_1": f'"wrong" {number}',
        }
        for number in range(3 if split == "train" else 1)
    ]


def export(built: Path, more: Mapping[str, Any]) -> None:
    """What an export leaves: a config in Parquet, one in JSON lines, one for evaluation, and what it says of them."""
    splits = ("train", "dev")
    for split in splits:
        (built / "triplet-1").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows_of(split)), built / "triplet-1" / f"{split}-00000-of-00001.parquet")
        (built / "ms_swift").mkdir(exist_ok=True)
        lines = [
            {"messages": [{"role": "user", "content": row["anchor"]}], "id": number}
            for number, row in enumerate(rows_of(split))
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (built / "ms_swift" / f"{split}-00000-of-00001.jsonl").write_text(text)
    (built / "beir/qrels").mkdir(parents=True, exist_ok=True)
    (built / "beir/qrels/dev.tsv").write_text("query-id\tcorpus-id\tscore\n")
    for name in ("corpus", "queries"):
        (built / f"beir/{name}.jsonl").write_text('{"_id": "1", "text": "a"}\n')
    (built / CONTENTS).write_text(json.dumps({**described(splits), **more}))


def described(splits: tuple[str, ...]) -> dict[str, Any]:
    text = {"anchor": "string", "positive": "string", "negative_1": "string"}
    chat = {"messages": "list<element: struct<role: string, content: string>>", "id": "int64"}
    configs = [
        config("triplet-1", "sentence_transformers", "sentence-transformers", text, "parquet", splits),
        config("ms_swift", "ms_swift", "ms-swift", chat, "jsonl", splits),
        {
            "name": "beir",
            "format": "beir",
            "trainer": "BEIR",
            "columns": {},
            "splits": {},
            "files": ["beir/corpus.jsonl", "beir/queries.jsonl", "beir/qrels/dev.tsv"],
        },
    ]
    counts = [counted(split=split, rows=len(rows_of(split))) for split in splits]
    return {"negatives": 1, "configs": configs, "rows": counts}


def config(
    name: str, form: str, trainer: str, columns: Mapping[str, str], suffix: str, splits: tuple[str, ...]
) -> dict[str, Any]:
    files = {
        split: {"files": [f"{name}/{split}-00000-of-00001.{suffix}"], "rows": len(rows_of(split))} for split in splits
    }
    return {"name": name, "format": form, "trainer": trainer, "columns": columns, "splits": files}


def counted(**given: Any) -> dict[str, Any]:
    fields = {
        "source": "synthetic",
        "task": "retrieval",
        "query_language": "en",
        "positive_language": "en",
        "split": "train",
    }
    return {**fields, "rows": 3, **given}


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != ".lock")


# Placing.


def test_a_release_has_all_that_the_export_built_and_four_files_of_ours(tmp_path: Path) -> None:
    build = Build(tmp_path)
    release = build.released()
    assert release == tmp_path / "outputs/small/release" / DAY
    ours = {"README.md", "croissant.json", "lineage.json", "SHA256SUMS"}
    built = contents_of(build.built())
    del built[CONTENTS]
    assert {name: content for name, content in contents_of(release).items() if name not in ours} == built
    assert contents_of(release).keys() - built.keys() == ours


def test_the_same_build_elsewhere_on_another_day_has_the_same_release_byte_for_byte(tmp_path: Path) -> None:
    one, other = Build(tmp_path / "one"), Build(tmp_path / "elsewhere")
    first, second = one.finished().place()[0], other.finished().place("2031-01-01")[0]
    assert contents_of(first) == contents_of(second)
    assert b"1.5" not in (first / "lineage.json").read_bytes()


def test_no_file_of_a_release_names_a_path_of_the_machine_or_the_day(tmp_path: Path) -> None:
    for name, content in contents_of(Build(tmp_path).released()).items():
        assert str(tmp_path).encode() not in content, name
        assert DAY.encode() not in content, name


def test_its_checksums_are_of_every_file(tmp_path: Path) -> None:
    release = Build(tmp_path).released()
    assert {file.name for file in release_files(release)} == set(contents_of(release))
    for line in (release / "SHA256SUMS").read_text().splitlines():
        sha256, name = line.split("  ")
        assert hashlib.sha256((release / name).read_bytes()).hexdigest() == sha256


def test_files_are_linked_and_read_only_in_both_places(tmp_path: Path) -> None:
    build = Build(tmp_path)
    release = build.released()
    for path in release.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o444
    shard = "triplet-1/train-00000-of-00001.parquet"
    assert (release / shard).samefile(build.built() / shard)


def test_a_release_outlives_the_step_that_made_it(tmp_path: Path) -> None:
    build = Build(tmp_path)
    release = build.released()
    before = contents_of(release)
    shutil.rmtree(build.built().parent)
    assert contents_of(release) == before
    build.finished()
    assert contents_of(release) == before


def test_what_is_released_is_not_released_again(tmp_path: Path) -> None:
    build = Build(tmp_path).finished()
    (first,) = build.place()
    assert build.place() == build.place("2027-01-01") == [first]
    assert tree(first.parent) == sorted([DAY, *(f"{DAY}/{name}" for name in tree(first))])


def test_copies_are_known_as_released_where_no_links_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "link", refuses)
    build = Build(tmp_path).finished()
    (first,) = build.place()
    assert not (first / "beir/corpus.jsonl").samefile(build.built() / "beir/corpus.jsonl")
    assert build.place() == [first]


def test_a_step_that_was_made_again_and_otherwise_is_another_release(tmp_path: Path) -> None:
    build = Build(tmp_path)
    first = build.released()
    shutil.rmtree(build.built().parent)
    build.finished()
    file = build.built() / "beir/corpus.jsonl"
    file.write_text('{"_id": "2", "text": "b"}\n')
    (second,) = build.place()
    assert second == first.with_name(f"{DAY}.2")
    assert (second / "beir/corpus.jsonl").read_text() != (first / "beir/corpus.jsonl").read_text()
    assert build.place() == [second]


def test_a_changed_recipe_is_the_next_release_of_the_day(tmp_path: Path) -> None:
    first = Build(tmp_path).released()
    changed = {**WRITES, **MINES, **EXPORTS, "tuples": {**EXPORTS["tuples"], "shard_rows": 7}}
    second = Build(tmp_path, changed).released()
    assert (first.name, second.name) == (DAY, f"{DAY}.2")


def test_each_export_of_a_recipe_is_a_release_and_says_which_it_is(tmp_path: Path) -> None:
    recipe = {**WRITES, **MINES, **EXPORTS, "others": {"kind": "export", "input": "examples", "shard_rows": 7}}
    build = Build(tmp_path, recipe).finished()
    placed = build.place()
    assert [path.name for path in placed] == [DAY, f"{DAY}.2"]
    assert [json.loads((path / "lineage.json").read_text())["export"]["step"] for path in placed] == [
        "tuples",
        "others",
    ]
    assert build.place() == placed
    assert [path.name for path in build.name("1.0")] == ["1.0", "1.0.2"]


def test_a_recipe_without_an_export_has_no_release(tmp_path: Path) -> None:
    build = Build(tmp_path, {**WRITES, **MINES}).finished()
    assert build.place() == []
    with pytest.raises(ConfigError, match="no step is an export"):
        build.name("1.0")


def test_a_chosen_name_is_taken_once(tmp_path: Path) -> None:
    build = Build(tmp_path).finished()
    (named,) = build.name("v1.0")
    assert build.place() == [named]
    before = contents_of(build.folder)
    with pytest.raises(
        ConfigError, match=r"v1\.0 is there already, and a release does not change; choose another name"
    ):
        build.name("v1.0")
    assert contents_of(build.folder) == before


@pytest.mark.parametrize(
    "name", ["", "..", ".hidden", "a/b", "../up", "a b", "a..b", "v1.lock", "-x", "é", "x" * 65, "a\n"]
)
def test_a_name_that_is_no_folder_or_tag_is_refused(tmp_path: Path, name: str) -> None:
    build = Build(tmp_path).finished()
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match="--name: "):
        build.name(name)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("missing", ["tuples", "corpus", "audit"])
def test_a_build_that_is_not_finished_is_not_released(tmp_path: Path, missing: str) -> None:
    build = Build(tmp_path, {**WRITES, **MINES, **EXPORTS, **AUDITS})
    for step in build.steps:
        if step.name != missing:
            build.finish(step)
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match=f"{missing} is not made yet; `pairmill run` the same config first"):
        build.name("1.0")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("fails", ["card", "read_contents", "write_bytes"])
def test_a_release_that_fails_on_the_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def stops(*_: object) -> None:
        raise OSError(28, "No space left on device")

    build = Build(tmp_path).finished()
    with monkeypatch.context() as patch:
        patch.setattr(f"pipeline.release.place.{fails}", stops)
        with pytest.raises((StoreError, OSError)):
            build.place()
    assert not list(build.folder.glob("release/*"))
    assert build.place()[0].name == DAY


def test_what_a_killed_placing_left_is_no_release_and_goes(tmp_path: Path) -> None:
    build = Build(tmp_path).finished()
    left = build.folder / f"release/.{DAY}.0a1b2c3d"
    left.mkdir(parents=True)
    (left / "README.md").write_text("half")
    assert build.place()[0].name == DAY
    assert [path.name for path in left.parent.iterdir()] == [DAY]


def test_a_folder_of_the_users_among_the_releases_is_left_alone(tmp_path: Path) -> None:
    build = Build(tmp_path).finished()
    own = build.folder / "release" / DAY
    own.mkdir(parents=True)
    (own / "lineage.json").write_text("[]")
    assert build.place()[0].name == f"{DAY}.2"
    assert (own / "lineage.json").read_text() == "[]"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"negatives": -1}, "negatives: "),
        ({"configs": [{"name": "../up", "format": "tuples", "trainer": "any"}]}, "configs.0.name: "),
        ({"configs": [{"name": "a", "format": "a", "trainer": "a", "files": ["/etc/passwd"]}]}, "configs.0.files.0: "),
        (
            {"configs": [{"name": "a", "format": "a", "trainer": "a", "files": ["a/../../b"]}]},
            "no path inside the release",
        ),
        (
            {"configs": [{"name": "a", "format": "a", "trainer": "a", "files": ["a/lost.tsv"]}]},
            "names a/lost.tsv, which is not there",
        ),
    ],
)
def test_contents_that_do_not_fit_what_is_there_are_told_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    build = Build(tmp_path, contents=change).finished()
    with pytest.raises(StoreError, match=rf"contents\.json: .*{says}.*run the config again"):
        build.place()
    assert not (build.folder / "release").exists()


def test_an_export_that_says_nothing_of_itself_is_told(tmp_path: Path) -> None:
    build = Build(tmp_path).finished()
    (build.built() / CONTENTS).unlink()
    with pytest.raises(StoreError, match=r"contents\.json: cannot be read .* to have it made anew"):
        build.place()


# The lineage.


def test_the_lineage_has_each_step_with_its_identity_and_what_became_of_its_rows(tmp_path: Path) -> None:
    stats = {"pairs": Stats(10, 7, {"too_short": 1, "copy": 2})}
    build = Build(tmp_path, stats=stats)
    lineage = json.loads((build.released() / "lineage.json").read_text())
    assert [step["step"] for step in lineage["steps"]] == [step.name for step in build.steps]
    told = {step["step"]: step for step in lineage["steps"]}
    for step in build.steps:
        assert told[step.name]["fingerprint"] == step.fingerprint
        assert told[step.name]["identity"] == json.loads(json.dumps(dict(step.identity)))
    assert (told["pairs"]["rows_in"], told["pairs"]["rows"]) == (10, 7)
    assert told["pairs"]["rejects"] == {"copy": 2, "too_short": 1}
    assert told["queries"]["pairmill"] == "9.9"
    assert lineage["recipe"]["steps"]["corpus"]["path"] == "docs.jsonl"
    assert lineage["recipe"]["engines"]["writer"]["model"] == "ORG/Writer"


def test_the_lineage_leaves_out_what_the_export_was_not_made_of(tmp_path: Path) -> None:
    recipe = {**WRITES, **MINES, "aside": {"kind": "dedup", "input": "pairs"}, **EXPORTS}
    lineage = json.loads((Build(tmp_path, recipe).released() / "lineage.json").read_text())
    assert "aside" not in {step["step"] for step in lineage["steps"]}
    assert "aside" in lineage["recipe"]["steps"]


def test_a_local_model_stands_by_its_folders_name(tmp_path: Path) -> None:
    (tmp_path / "models/mine").mkdir(parents=True)
    (tmp_path / "models/mine/config.json").write_text("{}")
    engine = {"kind": "vllm", "model": str(tmp_path / "models/mine")}
    build = Build(tmp_path, engines={"writer": engine})
    assert "| writer | vllm | mine |" in build.card()
    lineage = json.loads((build.place()[0] / "lineage.json").read_text())
    assert lineage["recipe"]["engines"]["writer"]["model"] == "mine"


# The card.


def shown(text: str) -> str:
    """The card's words as HTML."""
    return MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(text.split("---\n", 2)[2])


def tables(text: str) -> Iterator[list[list[str]]]:
    """The tables of a card, cell by cell, as a browser shows them."""
    for part in shown(text).split("<table>")[1:]:
        rows = part.split("</table>")[0].split("<tr>")[1:]
        yield [[html.unescape(cell.split(">", 1)[1].split("</t")[0]) for cell in row.split("<t")[1:]] for row in rows]


def table_of(text: str, first: str, second: str) -> list[list[str]]:
    """The rows of the table whose first heads are these."""
    return next(rows[1:] for rows in tables(text) if rows[0][:2] == [first, second])


def test_the_hubs_own_loader_reads_the_front_matter(tmp_path: Path) -> None:
    rows = [
        counted(),
        counted(task="bitext", positive_language="zh-Hant", rows=1),
        counted(query_language="sr-Latn", split="dev", rows=1),
    ]
    found = DatasetCard.load(Build(tmp_path, contents={"rows": rows}).released() / "README.md").data
    assert found.language == ["en", "sr", "zh"]
    assert found.to_dict()["language_bcp47"] == ["sr-Latn", "zh-Hant"]
    assert found.size_categories == ["n<1K"]
    assert found.task_categories == ["text-retrieval", "translation"]
    assert found.pretty_name == "small"
    assert found.license == "unknown"
    assert found.to_dict()["tags"] == ["pairmill", "synthetic", "sentence-transformers", "ms-swift", "beir"]
    assert found.to_dict()["configs"][0] == {
        "config_name": "triplet-1",
        "data_files": [
            {"split": "train", "path": "triplet-1/train-*.parquet"},
            {"split": "dev", "path": "triplet-1/dev-*.parquet"},
        ],
    }


def test_datasets_loads_every_table_and_split_by_the_card(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    release = Build(tmp_path).released()
    loaded = datasets.load_dataset(str(release), "triplet-1", cache_dir=str(tmp_path / "cache"))
    assert {split: rows.to_list() for split, rows in loaded.items()} == {
        split: rows_of(split) for split in ("train", "dev")
    }


def test_json_lines_beside_tables_are_not_offered_by_name_since_datasets_would_read_them_as_tables(
    tmp_path: Path,
) -> None:
    card = Build(tmp_path).card()
    configs = yaml.safe_load(card.split("---\n")[1])["configs"]
    assert [one["config_name"] for one in configs] == ["triplet-1"]
    assert "### `ms_swift`" in card


def test_datasets_loads_json_lines_by_the_card_where_a_release_has_nothing_else(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    configs = described(("train", "dev"))["configs"][1:]
    release = Build(tmp_path, contents={"configs": configs}).released()
    loaded = datasets.load_dataset(str(release), "ms_swift", cache_dir=str(tmp_path / "cache"))
    for split in ("train", "dev"):
        assert [row["messages"][0]["content"] for row in loaded[split]] == [row["anchor"] for row in rows_of(split)]


def test_a_split_of_json_lines_without_a_line_is_not_offered_to_loaders(tmp_path: Path) -> None:
    configs = described(("train", "dev"))["configs"][1:]
    configs[0]["splits"]["dev"]["rows"] = 0
    card = Build(tmp_path, contents={"configs": configs}).card()
    (offered,) = yaml.safe_load(card.split("---\n")[1])["configs"]
    assert [files["split"] for files in offered["data_files"]] == ["train"]


@pytest.mark.parametrize(
    ("rows", "name"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (19_000_000, "10M<n<100M"), (10**9, "1B<n<10B"), (10**12, "n>1T")],
)
def test_sizes_are_called_as_the_hub_calls_them(rows: int, name: str) -> None:
    assert size_of(rows) == name


def test_every_config_has_the_block_that_loads_it(tmp_path: Path) -> None:
    card = Build(tmp_path).card()
    assert 'load_dataset(".", "triplet-1", split="train")' in card
    assert "MultipleNegativesRankingLoss" in card
    assert "--dataset ms_swift/train-*.jsonl" in card
    assert 'GenericDataLoader("beir").load(split="dev")' in card


@pytest.mark.parametrize(
    "columns", [("anchor", "positive", "negative"), ("anchor", "positive", "negative_1", "negative_2")]
)
def test_no_column_of_texts_is_left_out_of_training(tmp_path: Path, columns: tuple[str, ...]) -> None:
    types = dict.fromkeys(columns, "string")
    with_ids = {"id": "string", **types}
    configs = [
        {**config(name, "sentence_transformers", "sentence-transformers", given, "parquet", ()), "splits": {}}
        for name, given in (("plain", types), ("plain-ids", with_ids))
    ]
    card = Build(tmp_path, contents={"configs": configs}).card()
    assert card.count(".select_columns(") == 1
    assert f".select_columns({list(columns)})" in card


def test_a_config_with_ids_is_trained_on_its_texts_alone(tmp_path: Path) -> None:
    text = {"id": "string", "batch": "int64", "sentence1": "string", "sentence2": "string", "score": "double"}
    with_ids = {
        **config("scored-ids", "sentence_transformers", "sentence-transformers", text, "parquet", ()),
        "splits": {},
    }
    card = Build(tmp_path, contents={"configs": [with_ids]}).card()
    assert ".select_columns(['sentence1', 'sentence2', 'score'])" in card
    assert "CoSENTLoss" in card
    assert "of every degree" in card


def test_the_card_counts_rows_by_source_task_languages_and_split(tmp_path: Path) -> None:
    rows = [
        counted(rows=1200),
        counted(split="dev", rows=30),
        counted(source="labelled", task="bitext", positive_language="th", rows=5),
    ]
    card = Build(tmp_path, contents={"rows": rows}).card()
    assert table_of(card, "source", "task") == [
        ["labelled", "bitext", "en", "th", "5", "0"],
        ["synthetic", "retrieval", "en", "en", "1,200", "30"],
    ]
    assert "1,235 examples" in card
    assert "(1,205 train, 30 dev)" in card


def test_the_card_tells_the_funnel_with_its_three_first_reasons(tmp_path: Path) -> None:
    stats = {"pairs": Stats(1010, 1000, {"rare": 1, "copy": 4, "chatter": 3, "language": 2})}
    (row,) = (row for row in table_of(Build(tmp_path, stats=stats).card(), "step", "stage") if row[0] == "pairs")
    assert row == ["pairs", "parse_query", "1,010", "1,000", "10", "copy 4, chatter 3, language 2, …"]


def test_the_card_names_models_prompts_and_sources_with_what_pins_them(tmp_path: Path) -> None:
    build = Build(tmp_path)
    card = build.card()
    steps = {step.name: step for step in build.steps}
    assert ["writer", "vllm", "ORG/Writer", "a" * 40, "temperature=0.5, max_tokens=256"] in table_of(
        card, "name", "engine"
    )
    assert table_of(card, "step", "asks") == [
        ["queries", "writer", "write_query", steps["queries"].prompts["write_query"].digest]
    ]
    content = steps["corpus"].identity["content of path"]
    assert table_of(card, "step", "kind") == [["corpus", "read_jsonl", "docs.jsonl", content, "not given"]]


def test_the_card_tells_the_audit_of_its_examples_with_the_interval(tmp_path: Path) -> None:
    card = Build(tmp_path, {**WRITES, **MINES, **EXPORTS, **AUDITS}).card()
    assert table_of(card, "negatives", "judged")[0] == ["all", "200", "8", "4.0%", "2.0% to 7.7%"]
    assert "negatives of `examples`" in card


def test_an_audit_of_other_examples_is_not_told(tmp_path: Path) -> None:
    others = {"others": {**MINES["examples"], "take": 2}, **AUDITS}
    others["negative_pairs"] = {**AUDITS["negative_pairs"], "input": "others"}
    build = Build(tmp_path, {**WRITES, **MINES, **EXPORTS, **others})
    assert "False negatives" not in build.card()
    assert json.loads((build.place()[0] / "lineage.json").read_text())["audits"] == []


def test_the_card_tells_what_a_mix_was_asked_for_and_got(tmp_path: Path) -> None:
    build = Build(tmp_path).finished()
    asked = {
        "n": 1000,
        "sources": {"labelled": {"weight": 3, "most": None}, "synthetic": {"weight": 1, "most": 200}},
        "per_language": {"*": 50},
    }
    got = {"rows": 800, "sources": {"labelled": 600, "synthetic": 200}, "languages": {"en": 800}, "cells": []}
    mix = {"asked": asked, "got": got, "there": {"sources": {"labelled": 600, "synthetic": 5000}}}
    folder = build.built("examples")
    folder.mkdir()
    (folder / "mix.json").write_text(json.dumps(mix))
    card = (build.place()[0] / "README.md").read_text()
    assert "The step `examples` was asked for 1,000, and gave 800." in card
    assert table_of(card, "of", "name") == [
        ["sources", "labelled", "75.0%", "600", "600", "75.0%"],
        ["sources", "synthetic", "25.0%, at most 200", "5,000", "200", "25.0%"],
        ["languages", "en", "at most 50", "0", "800", "100.0%"],
    ]


def test_a_model_is_said_to_have_written_only_where_one_was_asked_to_write(tmp_path: Path) -> None:
    written = Build(tmp_path / "one").card()
    assert "Language models wrote queries for it" in written
    brought = Build(tmp_path / "two", {**BRINGS, **MINES, **EXPORTS}).card()
    judged = Build(tmp_path / "three", {**BRINGS, **MINES, **EXPORTS, **AUDITS}).card()
    weighed = {
        "verdicts": {"kind": "generate", "input": "pairs", "prompt": "judge", "engine": "writer"},
        "judged": {"kind": "parse_verdict", "input": "verdicts"},
        "hits": {**MINES["hits"], "pairs": "judged"},
    }
    kept = Build(tmp_path / "four", {**BRINGS, **weighed, "examples": MINES["examples"], **EXPORTS}).card()
    assert "| verdicts | writer | judge |" in kept
    for card in (brought, judged, kept):
        assert "Language models wrote" not in card
        assert "No language model was asked to write for it in this build" in card
        assert "synthetic" not in card.split("---\n")[1]
    assert "A judge was asked" in judged


def test_rows_that_were_written_for_an_earlier_release_are_said_to_be(tmp_path: Path) -> None:
    earlier = {"kind": "read_tuples", "path": "pairs.jsonl"}
    from pipeline.stages.read_tuples import ReadTuples

    recipe = {"corpus": BRINGS["corpus"], "examples": ReadTuples.model_validate(earlier), **EXPORTS}
    card = Build(tmp_path, recipe).card()
    assert "4 of its examples have the source `synthetic`" in card
    assert "- synthetic\n" in card.split("---\n")[1]


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        (BUNDLED, ["**A demonstration, not to be trained on.**"]),
        ({"kind": "echo"}, ["**A dry run, not to be trained on.**"]),
        (WRITER, []),
    ],
)
def test_data_that_prove_the_path_are_not_to_be_trained_on(
    tmp_path: Path, engine: dict[str, Any], says: list[str]
) -> None:
    card = Build(tmp_path, engines={"writer": engine}).card()
    assert [line for line in says if line in card] == says
    assert ("not to be trained on" in card) == bool(says)
    assert ("Language models wrote" in card) == (engine["kind"] != "echo")


@pytest.mark.parametrize(
    ("given", "named", "told"),
    [
        (("CC-BY-SA-4.0", "cc-by-sa-4.0"), "cc-by-sa-4.0", "CC-BY-SA-4.0"),
        (("mit", "apache-2.0"), ["apache-2.0", "mit"], "apache-2.0"),
        (("mit", None), ["mit", "unknown"], "not given"),
        (("ask the | owner", "ask the | owner"), "other", "ask the | owner"),
    ],
)
def test_licences_are_as_given_and_in_names_that_the_hub_takes(
    tmp_path: Path, given: tuple[str | None, str | None], named: object, told: str
) -> None:
    recipe = {**BRINGS, **MINES, **EXPORTS}
    for step, one in zip(("corpus", "pairs"), given, strict=True):
        recipe[step] = {**recipe[step], **({"license": one} if one else {})}
    release = Build(tmp_path, recipe).released()
    assert DatasetCard.load(release / "README.md").data.license == named
    assert told in [row[4] for row in table_of((release / "README.md").read_text(), "step", "kind")]


def test_no_text_of_the_data_or_of_a_config_can_break_the_card(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "").replace("\n", " ")
    group = {"source": HOSTILE, "task": HOSTILE, "query_language": HOSTILE, "positive_language": f"e{HOSTILE}"}
    rows = [counted(**group, split=split, rows=2) for split in ("train", "dev")]
    stats = {"pairs": Stats(2, 1, {HOSTILE: 1})}
    recipe = {**WRITES, **MINES, **EXPORTS}
    recipe["corpus"] = {**recipe["corpus"], "license": HOSTILE}
    build = Build(tmp_path, recipe, contents={"rows": rows}, stats=stats, files=f"{name}.jsonl")
    release = build.released()
    card = (release / "README.md").read_text("utf-8")
    plain, found = shown(Build(tmp_path / "plain").card()), shown(card)
    assert {tag: found.count(tag) for tag in tags(found)} == {tag: plain.count(tag) for tag in tags(plain)}
    assert "<script" not in card
    assert all(letter.isprintable() or letter == "\n" for letter in card)
    assert found.count("alert(1)") == 7
    loaded = DatasetCard.load(release / "README.md").data
    assert loaded.pretty_name == "small"
    assert loaded.license == "other"
    assert [one["config_name"] for one in loaded.to_dict()["configs"]] == ["triplet-1"]


def tags(page: str) -> set[str]:
    return {f"<{part.split('>')[0].split(' ')[0]}" for part in page.split("<")[1:]}


@settings(max_examples=200)
@given(st.text(max_size=40) | st.text("|`*_~<>&[]()#-!\\$:@.w123 \n\t'\"", max_size=40))
def test_an_escaped_text_is_shown_as_it_is_whatever_it_holds(text: str) -> None:
    lines = "\n".join(table(("a", "b"), [(text, "end")]))
    (rows,) = tables(f"---\n---\n{lines}\n")
    assert len(rows) == 2
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    assert [cell.strip() for cell in rows[1]] == [plain or "–", "end"]
    assert MarkdownIt("gfm-like", {"linkify": False, "html": True}).renderInline(escaped(text)) == html.escape(
        plain
    ).replace("&#x27;", "'")


# Croissant.


def test_croissant_has_every_file_with_its_size_and_checksum(tmp_path: Path) -> None:
    build = Build(tmp_path)
    release = build.released()
    found = json.loads((release / "croissant.json").read_text())
    files = {one["contentUrl"]: one for one in found["distribution"] if one["@type"] == "cr:FileObject"}
    assert set(files) == set(contents_of(build.built())) - {CONTENTS}
    for name, one in files.items():
        content = (release / name).read_bytes()
        assert (one["sha256"], one["contentSize"]) == (hashlib.sha256(content).hexdigest(), f"{len(content)} B")
    assert found["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert "datePublished" not in found


def test_croissant_types_flat_columns_and_leaves_nested_ones_out(tmp_path: Path) -> None:
    columns = {
        "text": "string",
        "pos": "list<element: string>",
        "score": "double",
        "batch": "int64",
        "messages": "list<element: struct<role: string, content: string>>",
    }
    one = config("flat", "tuples", "any", columns, "parquet", ("train",))
    one["splits"]["train"]["files"] = ["triplet-1/train-00000-of-00001.parquet"]
    release = Build(tmp_path, contents={"configs": [one]}).released()
    (records,) = json.loads((release / "croissant.json").read_text())["recordSet"]
    fields = {
        one["source"]["extract"]["column"]: (one["dataType"], one.get("repeated", False)) for one in records["field"]
    }
    assert fields == {
        "text": ("sc:Text", False),
        "pos": ("sc:Text", True),
        "score": ("sc:Float", False),
        "batch": ("sc:Integer", False),
    }


def test_mlcroissant_takes_the_description_and_reads_the_rows_by_it(tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    recipe = {**WRITES, **MINES, **EXPORTS, "corpus": {**WRITES["corpus"], "license": "cc-by-4.0"}}
    described = mlcroissant.Dataset(str(Build(tmp_path, recipe).released() / "croissant.json"))
    assert described.metadata.issues.errors == set()
    assert {records.id for records in described.metadata.record_sets} == {
        f"{name}/{split}" for name in ("triplet-1", "ms_swift") for split in ("train", "dev")
    }
    for split in ("train", "dev"):
        records = list(described.records(f"triplet-1/{split}"))
        found = [{key.rpartition("/")[2]: value for key, value in record.items()} for record in records]
        assert [{key: text(value) for key, value in row.items()} for row in found] == rows_of(split)


def text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# The command line.


@pytest.fixture(name="command")
def command_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Calls a command on the config of a build whose `run` finishes at once."""
    build = Build(tmp_path)

    def finishes(runner: Any) -> None:
        other = Build(tmp_path)
        other.steps = runner.steps
        other.finished()

    monkeypatch.setattr("pipeline.runner.Build.run", finishes)
    path = tmp_path / "config.json"
    raw = {
        "recipe": {"name": "small", "engines": {"writer": WRITER}, "steps": build.recipe},
        "runtime": {"root": str(tmp_path / "outputs")},
    }
    path.write_text(json.dumps(raw))
    return lambda *arguments: CliRunner().invoke(cli.app, [arguments[0], str(path), *arguments[1:]])


def test_a_run_ends_with_the_release_and_the_next_says_where_it_is(
    command: Callable[..., Result], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for options in ((), ("--quiet",)):
        assert command("run", *options).exit_code == 0
        (release,) = (tmp_path / "outputs/small/release").iterdir()
        assert capfd.readouterr().out.endswith(f"\nThe release is in {release}\n")


def test_a_run_for_machines_places_the_release_and_prints_steps_alone(
    command: Callable[..., Result], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("run", "--json").exit_code == 0
    assert "release" not in capfd.readouterr().out
    assert list((tmp_path / "outputs/small/release").iterdir())


def test_the_command_release_names_a_finished_build_and_refuses_others(
    command: Callable[..., Result], tmp_path: Path
) -> None:
    refused = command("release", "--name", "1.0")
    assert refused.exit_code == 2
    assert "is not made yet; `pairmill run` the same config first" in refused.stderr
    command("run")
    named = command("release", "--name", "1.0")
    assert named.stdout == f"The release is in {tmp_path / 'outputs/small/release/1.0'}\n"
    again = command("release", "--name", "1.0")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "choose another name" in again.stderr
    assert command("release").stdout.startswith("The release is in ")
    assert len(list((tmp_path / "outputs/small/release").iterdir())) == 2
    assert "Example: pairmill release " in command("release", "--help").stdout


def test_what_the_export_really_builds_becomes_a_release(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    build = Build(tmp_path).finished()
    shutil.rmtree(build.built())
    build.built().mkdir()
    rows = [
        example(pair_id=f"p{number}", query=f"query {number}", split=split)
        for number, split in enumerate(("train", "dev", "test"))
    ]
    formats = [name for name in FORMATS if name != "scored"]
    stage = Export(input=("examples",), formats=tuple(formats), ids=True)
    list(stage.table(Context({"input": commit(tmp_path / "rows", Example, rows)}, {}, {}, build.built())))
    (release,) = build.place()
    card = (release / "README.md").read_text()
    names = [one.name for one in read_contents(build.built()).configs]
    assert [line.strip("#` ") for line in card.splitlines() if line.startswith("### ")] == names
    for offered in yaml.safe_load(card.split("---\n")[1])["configs"]:
        loaded = datasets.load_dataset(str(release), offered["config_name"], cache_dir=str(tmp_path / "cache"))
        assert {split: len(loaded[split]) for split in loaded} == {"train": 1, "dev": 1, "test": 1}


def test_contents_are_read_by_the_rules_that_exports_write_them_by(tmp_path: Path) -> None:
    build = Build(tmp_path).finished()
    contents = read_contents(build.built())
    assert contents.total == 4
    assert contents.configs[0].splits["train"].patterns == ("triplet-1/train-*.parquet",)
