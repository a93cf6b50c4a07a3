"""The check for what a model says around its answer, or instead of it.

A phrase gives itself away by its place and company, never alone, because people write "Here is the key." and "I'm sorry, I
can't come." too: words of assent before the name of what was asked for, that name before a colon, a first line that ends
in one. The words are `chatter_words`. What the real sentence says, its paraphrase or
translation may say.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, TypeAlias

import regex

from pipeline.rows import Pair
from pipeline.stages.checks.base import Check, Fault, fault, real, written
from pipeline.stages.checks.chatter_words import STARTS_FREELY, Tongue, tongue

_WRAP = " \t\n*_#>\"'“”„«»「『‘-–—•¡¿"

_TEMPLATE = regex.compile(
    r"""<\u2060?\|[^|<>\n]{1,64}\|>|<\uff5c[^\uff5c<>\n]{1,64}\uff5c>|<\|\w{2,40}|\w{2,40}\|>
    |</?(?:s|unk|pad|bos|eos|mask|cls|sep|image|(?:start|end)_of_\w{1,16}|extra_id_\d{1,3}|unused\d{1,5}|th(?:ink|inking|ought)
        |reasoning|reflection|analysis|scratchpad|tools?|tool_\w{1,12}|function(?:=\w{1,40}|_calls?)|final|final_answer|answer|query|question
        |response|output|input|passage|document|instructions?|user|assistant|system|translation|paraphrase)>
    |<0x[0-9a-f]{2}>
    |\[(?:\u2060?/?INST|PAD\d*|MASK|CLS|SEP|UNK|BOS|EOS|/?THINK|/?SYSTEM_PROMPT|/?AVAILABLE_TOOLS|/?TOOL_(?:CALLS|RESULTS|CONTENT))\]
    |<</?SYS>>|\{\{\s*\w{1,64}\s*\}\}|\{%
    |▁\w|\w▁|(?<=[\p{Ll}\p{N}\p{P}])[ĠĊ](?=\S)|[\p{Ll}\p{P}]Ċ|(?<!\w)Ċ(?!\w)""",
    regex.IGNORECASE | regex.VERBOSE,
)
_JSON = re.compile(r"""["']\w{1,40}["']\s{0,4}:\s{0,4}["'\[{]|^\s*[\[{]\s*["'{]|["']\s{0,4}[}\]][}\]\s]{0,8}$""")
_ROLE = re.compile(
    r"^[\s*#]*+(?:user|assistant|system|human|ai|model|bot)\s*(?::|\n)|\n[ \t]{0,8}(?:user|assistant|system|human|ai|model)[ \t]*(?::|$)",
    re.IGNORECASE,
)
_FENCE = re.compile(
    r"```|^`[^`\n]+`$|^\s*#{1,6}\s\w|(?<!\w)\*\*\S[^*\n]{0,200}\*\*|(?<!\w)__\S[^_\n]{0,200}\s[^_\n]{0,200}__"
)
_LIST = re.compile(
    r"^\(?1[.)][ \t]+\S[^\n]*\n[ \t]{0,8}\(?2[.)]\s|\n[ \t]{0,8}\(?\d{1,2}[.)][ \t]+\S"
    r"|^[-*•][ \t][^\n]+\n[ \t]{0,8}[-*•][ \t]|\n[ \t]{0,8}[-*•][ \t][^\n]{1,400}\n[ \t]{0,8}[-*•][ \t]|^(?:[*•]|\(?\d\))[ \t]+\S"
)
_NUMBERED = regex.compile(
    r"^\W*(?:question|query|pregunta|pergunta|frage|вопрос|问题|質問|soru|pertanyaan) ?\d{1,2}\s*(?:$|[\n.)-])"
)
_COLON_LINE = re.compile(r"^[^\n]*[:：﹕፦][*_ \t]*+\n\s*+\S")
_BLANK_LINE = re.compile(r"\S[ \t]{0,8}\n[ \t]{0,8}\n\s*+\S")
_COLON = re.compile(r"[:：﹕፦՝]")
_INSIDE = re.compile(r"[\n(（\[][\s*_#>\"'-]{0,8}([^:：\n()\[\]]{1,40})[:：]")
_DASH = re.compile(r"\s[-–—]\s")
_QUOTED_REST = re.compile(r"\s[\"'“„«「](?=[^\"“„«「]{8,}[\"'”“»」]\W{0,2}$)")
_MARKS = re.compile(r"[<>\[{|:：﹕፦՝▁ĠĊ\n`#*•()_–—\"“„«「}]")
_CLOSERS = frozenset("\"'“”»«」』’`.!！。")
_SENTENCE_ENDS = (".", "!", "?", "！", "。", "？", "؟", "।")
_QUOTES = "\"'“”„«»「『—–"
_INITIALS = frozenset("qaвос问問答سج")
"""What question and answer are shortened to before a colon."""
_OPENING, _CLOSING = "\"'“”„«»「『‘`", "\"'“”»«」』’`"

_SELF = regex.compile(
    r"""as\ an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model)\b(?=[^?]{0,60}(?:,|\bi\b))
    |i(?:'m|\ am)\ (?:just\ |only\ )?an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model)\b
    |i\ (?:can't|cannot|can\ not)\ (?:assist|provide|fulfil|comply|generate|translate)
    |i(?:'m|\ am)\ (?:unable|not\ able)\ to\ (?:assist|provide|fulfil|comply|generate|translate)
    |(?:the|this)\ (?:given\ |provided\ )?(?:passage|text|document)\ (?:does\ not|doesn't)\ (?:contain|provide|mention|include|give|state)
    |(?:there\ is\ )?(?:not\ enough|insufficient)\ (?:information|context)\ (?:in|to|from)\b
    |como\ (?:una?\ |uma?\ )?(?:ia|inteligencia\ artificial|modelo\ de\ lengua\w+|inteligência\ artificial|modelo\ de\ lingua\w+)\b(?=[^?]{0,60},)
    |en\ tant\ (?:qu'(?:ia|intelligence)|que\ modèle)
    |als\ (?:ki|ai|künstliche\ intelligenz|(?:ki-)?sprachmodell|taalmodel)\b(?=[^?]{0,60}(?:,|\b(?:ich|ik)\b))
    |come\ (?:un\ |un')?(?:ia|intelligenza\ artificiale|modello\ linguistico)\b(?=[^?]{0,60},)|jako\ (?:model\ językowy|jazykový\ model|sztuczna|umělá)
    |(?:я|(?:как|як)(?=[^?]{0,60}(?:,|\ я\b)))\ (?:(?:большая\ )?языковая\ модель|искусственный\ интеллект|ии\b|мовна\ модель|штучний)
    |(?:作为|作為|我是)(?:一个|一個|一名)?(?:ai|人工智能|人工智慧|语言模型|語言模型|大型[语語]言)|(?:ai|言語モデル)として(?!の)
    |(?:저는\ )(?:ai|인공지능)\ ?(?:언어\ )?(?:모델|어시스턴트)|(?:ai|인공지능)\ ?(?:언어\ )?(?:모델|어시스턴트)(?:이?로서|로써|이므로|입니다|이기|이라서)
    |sebagai\ (?:ai|model\ bahasa|kecerdasan)|bir\ (?:yapay\ zeka|dil\ modeli)(?=[^?]{0,40}(?:olarak|oldu[ğg]um|[ıiuü]y[ıiuü]m))|là\ một\ (?:ai|mô\ hình|trí\ tuệ)
    |(?:段落|文章|文本|原文)中?(?:并)?(?:没有|沒有|未)(?:提到|提及|提供|包含)""",
    regex.VERBOSE,
)

_Sign: TypeAlias = tuple[str, str, str]
"""A reason, the name of the sign, and what was found."""


class Chatter(Check):
    """The written side is the text asked for and no more. Reasons: template_token, refusal, chatter.

    For retrieval a token of a chat template may stand in a query whose passage has it too, and so may what stands before a
    colon or a dash, if it is more than the name of what was asked for: "Lost in Translation: cast".
    """

    kind: Literal["chatter"] = "chatter"

    def _fault(self, pair: Pair) -> Fault | None:
        text, retrieval = written(pair), pair.task == "retrieval"
        for words in _tongues(pair):
            for reason, name, found in _signs(text, words, retrieval=retrieval):
                if not _is_said(pair, name, found):
                    return fault(reason, f"{found.strip()!r}: {text}")
        return None


def _tongues(pair: Pair) -> tuple[Tongue, ...]:
    """A model may speak about its answer in the language of either side."""
    one = tongue(pair.query_language)
    return (one,) if pair.query_language == pair.positive_language else (one, tongue(pair.positive_language))


def _is_said(pair: Pair, name: str, found: str) -> bool:
    """Whether the real side has it as well."""
    if pair.task == "retrieval":
        return (name == "token" and found in pair.positive) or (name == "label" and _is_a_subject(pair, found))
    if name == "quoted" and any(mark in real(pair) for mark in _QUOTES):
        return True
    return name in _names_in(real(pair), _tongues(pair))


@lru_cache(maxsize=4)
def _names_in(text: str, tongues: tuple[Tongue, ...]) -> frozenset[str]:
    """The signs that a real side has, looked for once however many the written one has."""
    return frozenset(name for words in tongues for _, name, _ in _signs(text, words, retrieval=False))


def _is_a_subject(pair: Pair, label: str) -> bool:
    """Whether the passage speaks of what looks like a label in its query, in these words and not in one that labels begin with."""
    said = label.strip(_WRAP)
    nouns = [found for words in _tongues(pair) if (found := words.noun.search(said))]
    if not nouns or (" " not in said and any(noun.start() == 0 for noun in nouns)):
        return False
    return said in pair.positive.replace("’", "'").casefold()


def _signs(text: str, words: Tongue, *, retrieval: bool) -> Iterator[_Sign]:
    start = text[:240].lstrip(_WRAP).replace("’", "'").casefold()
    marked = _MARKS.search(text) is not None or " - " in text
    if marked and (token := _TEMPLATE.search(text)):
        yield "template_token", "token", token[0]
    if start[:4] in words.heads or start[:2] in words.heads:
        yield from _openings(start, words)
    if (marked or len(text) < 20) and (numbered := _NUMBERED.match(start)):
        yield "chatter", "label", numbered[0]
    if marked:
        yield from _marks(text, start, words, retrieval=retrieval)
    if (given := _leans_on_the_passage(start, words)) and (retrieval or start.startswith(given)):
        yield "chatter", "given", given
    if text[-1:] in _CLOSERS:
        yield from _ends(text, words)


def _openings(start: str, words: Tongue) -> Iterator[_Sign]:
    """Refusals and openers, with what follows them."""
    if found := _SELF.match(start):
        yield "refusal", "self", found[0]
    if found := words.sorry.match(start) or words.cannot.match(start):
        refused = words.cannot.search(start)
        wanted = words.help if words.sorry.match(start) else words.asked
        if refused and wanted.search(start, 0 if wanted is words.help else refused.end()):
            yield "refusal", "sorry", start[: refused.end()]
    if _opens(start, words):
        yield "chatter", "opener", start[:60]


def _opens(start: str, words: Tongue) -> bool:
    assent = words.assent.match(start)
    rest = start[assent.end() :] if assent else start
    near = rest[:80].partition("\n")[0]
    if assent and words.this.match(rest):
        return words.noun.search(near) is not None
    if assent:
        return words.asked.search(near) is not None
    if words.thinks.match(start):
        return (words.noun.search(near) or words.text.search(near)) is not None
    here = words.here.match(rest)
    return bool(here and words.asked.search(rest[here.end() : here.end() + 40]))


def _marks(text: str, start: str, words: Tongue, *, retrieval: bool) -> Iterator[_Sign]:
    for name, sign in (("json", _JSON), ("role", _ROLE), ("fence", _FENCE), ("list", _LIST), ("line", _COLON_LINE)):
        if sign.search(text):
            yield "chatter", name, text[:60]
    if (not retrieval or len(text) < 400) and _BLANK_LINE.search(text):
        yield "chatter", "paragraphs", "more than one paragraph"
    head = _COLON.split(start[:160], 1)
    if len(head) == 2 and _names_a_task(head[0], words):
        yield "chatter", "label", head[0]
    for mark, longest in ((_DASH, 3), (_QUOTED_REST, 8)):
        apart = mark.split(start, 1)
        if len(apart) == 2 and _length(apart[0]) <= longest and words.asked.search(apart[0]):
            yield "chatter", "label", apart[0]
    for inner in _INSIDE.findall(text[:4000].replace("’", "'").casefold())[:8]:
        if _is_label(inner, words):
            yield "chatter", "label", inner


def _names_a_task(head: str, words: Tongue) -> bool:
    """Whether what stands before a colon says what comes after it, as a model does."""
    if _is_label(head, words):
        return True
    assent = words.assent.match(head + " ")
    if assent and words.this.match(head, min(assent.end(), len(head))):
        return True
    if not words.noun.search(head):
        return False
    return bool(assent or words.this.search(head) or words.could.search(head) or words.text.search(head))


def _is_label(head: str, words: Tongue) -> bool:
    length = _length(head)
    if length <= 2:
        said = head.strip(_WRAP)
        return said in _INITIALS or said in words.names or words.noun.search(head) is not None
    return length <= 8 and words.asked.search(head) is not None


def _length(head: str) -> int:
    """Words, where a script has no blanks four letters a word."""
    return sum(-(-len(word) // 4) if STARTS_FREELY.match(word) and len(word) > 8 else 1 for word in head.split())


def _leans_on_the_passage(start: str, words: Tongue) -> str | None:
    """A query that only makes sense beside its passage ("according to the passage")."""
    for phrase in words.by:
        if phrase in start:
            found = words.given.search(start)
            return found[0] if found else None
    return None


def _ends(text: str, words: Tongue) -> Iterator[_Sign]:
    """Marks around the whole, and a last sentence that takes leave."""
    whole = text.strip()
    if whole[:1] in _OPENING and whole[-1:] in _CLOSING and len(whole) > 2 and _is_quoted(whole):
        yield "chatter", "quoted", whole[0] + whole[-1]
    tail = text[-160:].rstrip(" \n.!！。")
    last = max(map(tail.rfind, _SENTENCE_ENDS))
    if last > 0 and (found := words.ending.match(tail[last + 1 :].lstrip(_WRAP).replace("’", "'").casefold())):
        yield "chatter", "ending", found[0]


def _is_quoted(text: str) -> bool:
    """Whether one pair of marks holds it all: not «"Come," he said, "now."»."""
    return not any(mark in text[1:-1] for mark in text[0] + text[-1] if mark not in "'’")
