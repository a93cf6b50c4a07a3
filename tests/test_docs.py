"""What the documents show plans as it stands."""

import re
from typing import Any

import pytest
import yaml
from conftest import QUICKSTART, ROOT, planned

from pipeline.config import from_mapping

PAGES = ("generation", "filters", "negatives", "mix", "splits")


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


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_what_there_is_to_show(page: str) -> None:
    assert len(blocks(page)) >= 4
