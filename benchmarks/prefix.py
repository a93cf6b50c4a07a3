"""What the order of requests is worth to vLLM's prefix cache, and what the layout of a prompt is.

    python -m benchmarks.prefix --passages 50

The same requests, four a passage as a step with several samples makes them, go to one bare `vllm.LLM` in three orders, the
cache emptied between: shuffled (seeded), passage after passage (as rows come), and sorted by rendered messages (as a build
asks). The prompt is the shipped one or, with `--passage-first`, one that has the passage before all that differs between
the requests about it. The ratio is of the tokens that had to be computed, against the shuffled order; one token is written
a request, so that the seconds are those of the prompts too.

The cache holds 4,096 tokens, a fifteenth of what 200 requests ask. So a prefix that is not used soon is lost, as it is in a
build of millions of passages with any cache.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from pipeline.engines import bundled
from pipeline.engines.vllm_runtime import VllmRuntime, cpu_environment
from pipeline.prompts import Prompt, load
from pipeline.replies import Message
from pipeline.shipped import root

Chat: TypeAlias = Sequence[Message]

ASKED = (
    ("a question", "English"),
    ("keywords", "English"),
    ("a yes-or-no question", "English"),
    ("a question", "German"),
)
"""Style and language of the requests about a passage."""

CACHE_TOKENS = 4096
BLOCK = 32
"""Tokens in a block: a prefix is kept in whole blocks. vLLM takes 16 on GPUs and 128 on a CPU, whose kernels want 32 or more."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--passages", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--block", type=int, default=BLOCK, help="tokens in a block of the cache")
    arguments.add_argument("--passage-first", action="store_true", help="the passage before all that differs")
    given = arguments.parse_args()
    shipped = load("write_query", [root() / "prompts"])
    prompt = passage_first(shipped) if given.passage_first else shipped
    chats = list(requests(prompt, given.passages))
    llm = started(given.block)
    print(
        "| order | requests | prompt tokens | hit rate | tokens computed | ratio | seconds |\n|---|---|---|---|---|---|---|"
    )
    first = None
    for name, ordered in orders(chats, given.seed).items():
        queried, hit, seconds = asked(llm, ordered)
        first = first or queried - hit
        work = f"{queried:,} | {hit / queried:.1%} | {queried - hit:,} | {first / (queried - hit):.2f}"
        print(f"| {name} | {len(ordered):,} | {work} | {seconds:.1f} |", flush=True)


def passage_first(prompt: Prompt) -> Prompt:
    """The same prompt with what is asked after the passage, and with examples that do not depend on it."""
    before, _, _ = prompt.body.partition("{% block user %}")
    user = "Passage: {{ text }}\n\nWrite {{ style }} in {{ language }} that this passage answers."
    one_style = [example for example in prompt.examples if example["style"] == "a question"]
    return replace(prompt, body=f"{before}{{% block user %}}{user}{{% endblock %}}", examples=tuple(one_style[:1]))


def requests(prompt: Prompt, passages: int) -> Iterator[Chat]:
    """The chats about the first English passages of the quickstart, passage after passage."""
    with (root() / "configs/quickstart/corpus/en.jsonl").open(encoding="utf-8") as lines:
        for line, _ in zip(lines, range(passages), strict=False):
            document = json.loads(line)
            for style, language in ASKED:
                values = {"text": document["text"], "style": style, "language": language}
                yield prompt.render(values, document["doc_id"])


def orders(chats: Sequence[Chat], seed: int) -> Mapping[str, Sequence[Chat]]:
    return {
        "shuffled": random.Random(seed).sample(chats, len(chats)),
        "passage after passage": chats,
        "sorted": sorted(chats, key=lambda chat: [message["content"] for message in chat]),
    }


def started(block: int) -> Any:
    """The bundled model in a bare `vllm.LLM` with a small cache."""
    os.environ |= cpu_environment(VllmRuntime(cpu_kv_cache_gib=1)) | {"VLLM_LOGGING_LEVEL": "ERROR"}
    from vllm import LLM

    return LLM(
        model=str(bundled.prepare()),
        dtype="float32",
        max_model_len=2048,
        max_num_seqs=8,
        enforce_eager=True,
        enable_prefix_caching=True,
        disable_log_stats=False,  # vLLM counts hits only where it may report them
        block_size=block,
        num_gpu_blocks_override=CACHE_TOKENS // block,
    )


def asked(llm: Any, chats: Sequence[Chat]) -> tuple[int, int, float]:
    """Tokens of the prompts, those of them that vLLM found in its cache, and seconds."""
    from vllm import SamplingParams

    llm.reset_prefix_cache()
    queried, hit = counters(llm)
    began = time.monotonic()
    llm.chat([list(chat) for chat in chats], SamplingParams(temperature=0, max_tokens=1), use_tqdm=False)
    seconds = time.monotonic() - began
    queried_by_now, hit_by_now = counters(llm)
    return queried_by_now - queried, hit_by_now - hit, seconds


def counters(llm: Any) -> tuple[int, int]:
    """Tokens that were looked up in the prefix cache since the start, and those that were found."""
    values = {metric.name: metric.value for metric in llm.get_metrics() if hasattr(metric, "value")}
    return int(values["vllm:prefix_cache_queries"]), int(values["vllm:prefix_cache_hits"])


if __name__ == "__main__":
    main()
