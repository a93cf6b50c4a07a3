"""What the documents show plans as it stands."""

import re
from typing import Any

import pytest
import yaml
from conftest import QUICKSTART, ROOT, planned

from pipeline.config import from_mapping

BASE, *BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "generation.md").read_text("utf-8"), re.DOTALL)


def steps_of(block: str) -> dict[str, Any]:
    parsed = yaml.safe_load(block)
    assert isinstance(parsed, dict)
    return parsed


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split(":")[0])
def test_a_block_of_the_page_on_generation_plans_under_its_base(block: str) -> None:
    recipe = {
        "name": "page",
        "engines": {"writer": {"kind": "echo"}},
        "steps": {**steps_of(BASE), **steps_of(block)},
    }
    assert planned(from_mapping({"recipe": recipe}), QUICKSTART).keys() == recipe["steps"].keys()


def test_the_page_shows_what_there_is_to_show() -> None:
    assert len(BLOCKS) >= 10
