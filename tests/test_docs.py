"""What the documents show plans as it stands."""

import ast
import re
from typing import Any

import pytest
import yaml
from conftest import QUICKSTART, ROOT, planned

from pipeline.config import from_mapping

PAGES = ("generation", "filters", "negatives", "mix", "splits", "batches")


def steps_of(block: str) -> dict[str, Any]:
    parsed = yaml.safe_load(block)
    assert isinstance(parsed, dict)
    return parsed


def blocks(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text("utf-8"), re.DOTALL)


SHOWN = [(page, block) for page in PAGES for block in blocks(page)[1:]]


@pytest.mark.parametrize(("page", "block"), SHOWN, ids=lambda text: text.split(":")[0])
def test_a_block_of_a_page_plans_under_the_pages_first(page: str, block: str) -> None:
    recipe = {
        "name": "page",
        "engines": {"writer": {"kind": "echo"}},
        "steps": {**steps_of(blocks(page)[0]), **steps_of(block)},
    }
    assert planned(from_mapping({"recipe": recipe}), QUICKSTART).keys() >= recipe["steps"].keys()


def test_the_sampler_that_is_shown_is_the_one_that_trains() -> None:
    (shown,) = re.findall(r"(def in_order\(.*?)\n\n", (ROOT / "docs" / "batches.md").read_text("utf-8"), re.DOTALL)
    ours = next(
        node
        for node in ast.parse((ROOT / "examples" / "train.py").read_text("utf-8")).body
        if getattr(node, "name", "") == "in_order"
    )
    assert isinstance(ours, ast.FunctionDef)
    assert ast.unparse(ast.parse(shown).body[0].body[-1]) == ast.unparse(ours.body[-1])  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_what_there_is_to_show(page: str) -> None:
    assert len(blocks(page)) >= 4
