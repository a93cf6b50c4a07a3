"""What an OpenAI-compatible server says: completions, faults, and how long it asks to be left alone."""

import contextlib
import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pipeline.engines.base import Reply, by_text


def completion(body: bytes) -> Reply:
    completion = json.loads(body)
    choice = completion["choices"][0]
    usage = completion.get("usage") or {}
    counted = choice.get("finish_reason"), usage.get("prompt_tokens"), usage.get("completion_tokens")
    details = usage.get("prompt_tokens_details") or {}
    cached, message = details.get("cached_tokens"), choice["message"]
    thought = message.get("reasoning") or message.get("reasoning_content")
    reasoning = _storable(thought) if isinstance(thought, str) else None
    first = _first_tokens(choice.get("logprobs"))
    if not (message["content"] or reasoning or first):
        return Reply(None, *counted, error="empty reply")
    text = _storable(message["content"] or "")
    return Reply(text, *counted, reasoning=reasoning, cached_tokens=cached, first_tokens=first)


def _first_tokens(logprobs: Any) -> dict[str, float]:
    """What the first token might have been; nothing where the server does not say, or says it in another form."""
    with contextlib.suppress(LookupError, TypeError, ValueError, AttributeError):
        chosen = logprobs["content"][0]
        likeliest = chosen.get("top_logprobs") or [chosen]
        return by_text((_storable(one["token"]), float(one["logprob"])) for one in likeliest)
    return {}


def _storable(text: str) -> str:
    """JSON can carry half of a character, but UTF-8, and so Parquet, cannot: U+FFFD stands for it."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def complaint(body: bytes) -> str:
    """What a server says is wrong, as one line: `error.message`, a bare `message` or `detail`, or else the body."""
    said: Any = body.decode("utf-8", "replace")
    with contextlib.suppress(ValueError):  # It may be a proxy's page.
        said = json.loads(said)
    for key in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(key):
            said = said[key]
    return " ".join(str(said).split()) or "nothing"


def retry_after_s(header: str, now: datetime) -> float:
    """Seconds that a Retry-After header asks for, given in seconds or as a date; 0 where it says nothing of use."""
    if header.strip().isdecimal():
        return float(header)
    try:
        then = parsedate_to_datetime(header)
    except ValueError:
        return 0
    return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - now).total_seconds())
