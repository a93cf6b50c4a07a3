"""The same shape in distilabel: documents are loaded, a model that does nothing is asked about each, its reply is read.

Run by benchmarks.orchestration with the Python of an environment that has distilabel, which pairmill does not need.
"""

import json
import sys
import time
from typing import Any

from distilabel.models.llms import LLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromFileSystem, StepInput, step
from distilabel.steps.tasks import TextGeneration

REPLY = json.dumps({"query": "What does this passage say?"})


class Idle(LLM):  # type: ignore[misc]
    @property
    def model_name(self) -> str:
        return "idle"

    def generate(self, inputs: list[Any], num_generations: int = 1) -> list[Any]:  # noqa: ARG002 - theirs
        return [{"generations": [REPLY], "statistics": {"input_tokens": [1], "output_tokens": [1]}} for _ in inputs]


@step(inputs=["generation"], outputs=["query"])  # type: ignore[untyped-decorator]
def parse(rows: StepInput) -> Any:
    for row in rows:
        row["query"] = json.loads(row["generation"]).get("query")
    yield rows


def main(path: str, batch: int) -> None:
    with Pipeline(name="orchestration") as pipeline:
        load = LoadDataFromFileSystem(data_files=path, filetype="json", batch_size=batch)
        ask = TextGeneration(
            llm=Idle(),
            system_prompt="You write what people type into a search engine. Reply as JSON with the key query.",
            template="Write a question in English that this passage answers.\n\nPassage: {{ text }}",
            columns=["text"],
            input_batch_size=batch,
            add_raw_output=False,
            add_raw_input=False,
        )
        load >> ask >> parse(input_batch_size=batch)
    began = time.monotonic()
    made = pipeline.run(use_cache=False)
    print(json.dumps({"seconds": time.monotonic() - began, "rows": len(made["default"]["train"])}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
