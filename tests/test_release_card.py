"""What a release says of itself: the card that the Hub shows, and the description for machines."""

import ast
import hashlib
import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from releasing import (
    AUDITS,
    BRINGS,
    BUNDLED,
    EXPORTS,
    HOSTILE,
    MINES,
    WRITER,
    WRITES,
    Build,
    config,
    contents_of,
    counted,
    described,
    rows_of,
)

from pipeline.release.built import CONTENTS
from pipeline.release.front import size_of
from pipeline.release.markdown import escaped, table
from pipeline.release.origins import JUDGES, WRITTEN
from pipeline.rows import Document, Generation, Made, Row
from pipeline.stages.base import Context, Stage, TableStage
from pipeline.store import Stats

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
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (19_000_000, "10M<n<100M"),
        (10**9, "1B<n<10B"),
        (2 * 10**10, "10B<n<100B"),
        (2 * 10**11, "100B<n<1T"),
        (10**12, "n>1T"),
    ],
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
    assert "The judge `writer` (ORG/Writer) was asked of negatives of `examples`" in judged


def test_every_step_that_reads_replies_adds_text_or_judges() -> None:
    def kinds(stage: type[Stage]) -> Iterator[str]:
        if any(Generation in taken for taken in stage.takes.values()) and "kind" in stage.model_fields:
            yield str(stage.model_fields["kind"].default)
        for narrower in stage.__subclasses__():
            yield from kinds(narrower)

    shipped = {kind for kind in kinds(Stage) if kind.startswith("parse_")}
    assert shipped == WRITTEN.keys() | JUDGES
    assert not WRITTEN.keys() & JUDGES


def test_translating_back_writes_nothing_for_the_data(tmp_path: Path) -> None:
    checked: dict[str, Any] = {
        "backs": {"kind": "generate", "input": "pairs", "prompt": "translate_back", "engine": "writer"},
        "checked": {"kind": "parse_back_translation", "input": "backs"},
        "hits": {**MINES["hits"], "pairs": "checked"},
        "examples": MINES["examples"],
    }
    pairs = {**BRINGS["pairs"], "task": "bitext"}
    card = Build(tmp_path, {**BRINGS, "pairs": pairs, **checked, **EXPORTS}).card()
    assert "| backs | writer | translate_back |" in card
    assert "No language model was asked to write for it in this build" in card
    assert "- synthetic\n" not in card.split("---\n")[1]


def test_it_is_said_to_be_filtered_only_where_it_was(tmp_path: Path) -> None:
    clean = {"clean": {"kind": "filter", "input": "pairs"}, "hits": {**MINES["hits"], "pairs": "clean"}}
    filtered = Build(tmp_path / "one", {**WRITES, **clean, "examples": MINES["examples"], **EXPORTS}).card()
    assert "They were filtered, not read by people" in filtered
    assert "Neither filters nor people read them" in Build(tmp_path / "two").card()


@pytest.mark.parametrize(
    ("mined", "negatives", "says"),
    [
        ({}, 3, "a query, a text that fits it, and 3 that do not, the hardest first."),
        ({"choice": "random"}, 3, "a query, a text that fits it, and 3 that do not."),
        ({}, 1, "a query, a text that fits it, and 1 that does not."),
        ({}, 0, "a query and a text that fits it."),
    ],
)
def test_the_card_counts_negatives_and_knows_their_order(
    tmp_path: Path, mined: dict[str, Any], negatives: int, says: str
) -> None:
    recipe = {**WRITES, **MINES, "examples": {**MINES["examples"], **mined}, **EXPORTS}
    card = Build(tmp_path, recipe, contents={"negatives": negatives}).card()
    assert f"embedding models (3 train, 1 dev): {says} Made by pairmill." in card


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        (BUNDLED, "**These rates say nothing: the judge is the small bundled model.** The judge `judge`"),
        ({"kind": "echo"}, "**These rates say nothing: `echo` stood in for the judge.** The judge `judge` was asked"),
        (WRITER, "The judge `judge` (ORG/Writer) was asked of negatives of `examples`"),
    ],
)
def test_an_audit_names_its_judge_and_says_where_that_is_none(
    tmp_path: Path, engine: dict[str, Any], told: str
) -> None:
    audits = {**AUDITS, "verdicts": {**AUDITS["verdicts"], "engine": "judge"}}
    build = Build(tmp_path, {**WRITES, **MINES, **EXPORTS, **audits}, engines={"writer": WRITER, "judge": engine})
    card = build.card()
    assert told in card
    assert ("These rates say nothing" in card) == (engine is not WRITER)
    assert [row[0] for row in table_of(card, "name", "engine")] == ["writer", "judge"]
    assert ["verdicts", "judge", "judge"] in [row[:3] for row in table_of(card, "step", "asks")]
    assert "not to be trained on" not in card


def test_a_step_of_a_callers_own_that_reads_is_a_source_without_a_licence(tmp_path: Path) -> None:
    class Scraped(TableStage):
        row_type: ClassVar[type[Row]] = Document

        def table(self, context: Context) -> Iterator[Made]:
            raise NotImplementedError

    own = {"own": Scraped(), "hits": {**MINES["hits"], "corpus": ["corpus", "own"]}, "examples": MINES["examples"]}
    build = Build(tmp_path, {**WRITES, **own, **EXPORTS}, licenses={"corpus": "mit"})
    card = build.card()
    assert ["own", "Scraped", "–", "–", "not given"] in table_of(card, "step", "kind")
    assert yaml.safe_load(card.split("---\n")[1])["license"] == ["mit", "unknown"]


def test_blank_seeds_are_no_source(tmp_path: Path) -> None:
    asks = {"kind": "generate", "input": "seeds", "prompt": "propose_topics", "engine": "writer"}
    seeds: dict[str, Any] = {
        "seeds": {"kind": "blank_seeds", "n": 5, "languages": {"*": {"en": 1}}},
        "asked": {**asks, "facets": {"field": "law"}},
        "topics": {"kind": "parse_topics", "input": "asked"},
        "queries": {**WRITES["queries"], "input": ["topics"]},
        "pairs": WRITES["pairs"],
    }
    card = Build(tmp_path, {"corpus": WRITES["corpus"], **seeds, **MINES, **EXPORTS}).card()
    assert [row[0] for row in table_of(card, "step", "kind")] == ["corpus"]
    assert "Language models wrote subjects to write about and queries" in card


# Batches.

PLANS: dict[str, Any] = {"planned": {"kind": "batches", "input": "examples", "size": 256}}
ALL = ("sentence_transformers", "ms_swift", "ms_swift_reranker", "flag_embedding", "tevatron")


def in_batches(tmp_path: Path, *, batched: bool) -> str:
    """The card of an export below a plan, in which rows still stand in its batches or do not."""
    text = {"anchor": "string", "positive": "string", "negative_1": "string"}
    configs = [{**config(form, form, form.title(), text, "parquet", ()), "splits": {}} for form in ALL]
    recipe = {**WRITES, **MINES, **PLANS, "tuples": {"kind": "export", "input": "planned"}}
    return Build(tmp_path, recipe, contents={"batched": batched, "configs": configs}).card()


def test_where_batches_were_planned_each_block_keeps_them_or_says_that_it_cannot(tmp_path: Path) -> None:
    card = in_batches(tmp_path, batched=True)
    assert "Rows of train stand in planned batches of 256: train on them in their order" in card
    assert card.count("--dataset_shuffle false --train_dataloader_shuffle false") == 2
    assert card.count("--per_device_train_batch_size 256  # divided by the number of devices") == 2
    assert "per_device_train_batch_size=256,  # divided by the number of devices" in card
    for trainer in ("Flag_Embedding", "Tevatron"):
        assert f"{trainer} shuffles rows: the plan of batches is lost there." in card
    (block,) = (part.split("```")[0] for part in card.split("```python\n")[1:])
    names = {node.id for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Name)}
    assert {"InOrder", "arguments", "SequentialSampler"} <= names


def test_where_a_mix_undid_the_plan_the_card_tells_of_no_batches(tmp_path: Path) -> None:
    card = in_batches(tmp_path, batched=False)
    for word in ("planned batches", "InOrder", "shuffle", "per_device_train_batch_size"):
        assert word not in card


def test_commands_name_a_model_lengths_and_the_pooling_of_a_decoder(tmp_path: Path) -> None:
    card = in_batches(tmp_path, batched=False)
    blocks = {form: card.split(f"### `{form}`")[1].split("```")[1] for form in ("flag_embedding", "tevatron")}
    for block in blocks.values():
        assert "--model_name_or_path ORG/MODEL" in block
        assert "--query_max_len 512 --passage_max_len 512" in block
        assert "--output_dir out" in block
    assert "--sentence_pooling_method last_token" in blocks["flag_embedding"]
    assert "--pooling last --append_eos_token" in blocks["tevatron"]


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
        (("GPL-2.0", "OpenRAIL++"), ["gpl-2.0", "openrail++"], "GPL-2.0"),
    ],
)
def test_licences_are_as_given_and_in_names_that_the_hub_takes(
    tmp_path: Path, given: tuple[str | None, str | None], named: object, told: str
) -> None:
    recipe = {**BRINGS, **MINES, **EXPORTS}
    licenses = {step: one for step, one in zip(("corpus", "pairs"), given, strict=True) if one}
    release = Build(tmp_path, recipe, licenses=licenses).released()
    assert DatasetCard.load(release / "README.md").data.license == named
    assert told in [row[4] for row in table_of((release / "README.md").read_text(), "step", "kind")]
    croissant = json.loads((release / "croissant.json").read_text())
    assert ("license" in croissant) == (None not in given)


def test_no_text_of_the_data_or_of_a_config_can_break_the_card(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "").replace("\n", " ")
    group = {"source": HOSTILE, "task": HOSTILE, "query_language": HOSTILE, "positive_language": f"e{HOSTILE}"}
    rows = [counted(**group, split=split, rows=2) for split in ("train", "dev")]
    stats = {"pairs": Stats(2, 1, {HOSTILE: 1})}
    licenses = {"corpus": HOSTILE}
    build = Build(tmp_path, contents={"rows": rows}, stats=stats, files=f"{name}.jsonl", licenses=licenses)
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
    released = Build(tmp_path, licenses={"corpus": "cc-by-4.0"}).released()
    described = mlcroissant.Dataset(str(released / "croissant.json"))
    assert described.metadata.issues.errors == set()
    assert [records.id for records in described.metadata.record_sets] == ["triplet-1/train", "triplet-1/dev"]
    for split in ("train", "dev"):
        records = list(described.records(f"triplet-1/{split}"))
        found = [{key.rpartition("/")[2]: value for key, value in record.items()} for record in records]
        assert [{key: text(value) for key, value in row.items()} for row in found] == rows_of(split)


def text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
