"""Pairs that are bad in a known way, made from pairs that people wrote.

Each corruption takes a pair and a source of chance, and gives the pair spoilt, or None where it cannot be (a text without a
number has none to change). All were written before a look at how the checks find them, also the wordings of chatter: what the
first run over them missed is in benchmarks/LOG.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from types import MappingProxyType
from typing import TypeAlias

import regex

from pipeline.rows import Pair
from pipeline.segmentation import sentences, words

Corruption: TypeAlias = Callable[[Pair, Random], Pair | None]

_TEMPLATES = (
    "<|im_end|>",
    "<|endoftext|>",
    "</s>",
    "<|eot_id|>",
    "[/INST]",
    "<end_of_turn>",
    "<|im_start|>assistant\n",
)
_CHATTER: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "en": (
            "Sure thing! A fitting query might be: ", "Here's what someone could type:\n", "Search query: ", "Q: ",
            "Happy to help. One question this passage answers:\n\n", "I came up with this one: ", "**Question:** ",
            "Of course. The following query fits the text: ", "Output:\n", "My suggestion would be the following query:\n",
        ),
        "de": ("Gern! Eine passende Suchanfrage wäre: ", "Mein Vorschlag für die Frage: ", "Suchanfrage: "),
        "es": ("¡Por supuesto! Una buena pregunta sería: ", "Consulta de búsqueda: ", "Esta es mi propuesta:\n"),
        "fr": ("Bien entendu ! Une question possible : ", "Question : ", "Voici ma proposition :\n"),
        "zh": ("好的，我建议的问题是：", "搜索查询：", "当然可以！问题如下：\n"),
        "ar": ("بالطبع! سؤال مناسب هو: ", "استعلام البحث: ", "إليك اقتراحي:\n"),
        "hi": ("ज़रूर! एक उपयुक्त प्रश्न यह हो सकता है: ", "खोज प्रश्न: ", "यह रहा मेरा सुझाव:\n"),
        "ru": ("С удовольствием! Подходящий вопрос: ", "Поисковый запрос: ", "Предлагаю такой вариант:\n"),
        "th": ("ได้เลย! คำถามที่เหมาะสมคือ: ", "คำค้นหา: ", "นี่คือข้อเสนอของฉัน:\n"),
        "el": ("Βεβαίως! Μια κατάλληλη ερώτηση: ", "Ερώτημα αναζήτησης: ", "Ορίστε η πρότασή μου:\n"),
        "tr": ("Elbette! Uygun bir soru şu olabilir: ", "Arama sorgusu: ", "Önerim şöyle:\n"),
        "vi": ("Tất nhiên rồi! Một câu hỏi phù hợp là: ", "Truy vấn tìm kiếm: ", "Đây là đề xuất của tôi:\n"),
        "ro": ("Desigur! O întrebare potrivită ar fi: ", "Interogare de căutare: ", "Iată propunerea mea:\n"),
        "ja": ("承知しました。質問の例は次のとおりです：", "検索クエリ：", "私の提案です：\n"),
        "ko": ("물론입니다! 알맞은 질문은 다음과 같습니다: ", "검색어: ", "제 제안입니다:\n"),
    }
)  # fmt: skip
_DIGITS = regex.compile(r"\d+")


def a_sentence_of_the_passage(pair: Pair, chance: Random) -> Pair | None:
    """The query is a sentence of the passage."""
    found = [pair.positive[start:end] for start, end in sentences(pair.positive, pair.positive_language)]
    long = [sentence for sentence in found if len(words(sentence)) >= 6]
    return replace(pair, query=chance.choice(long).strip()) if long else None


def cut_off(pair: Pair, chance: Random) -> Pair | None:
    """The query, of five words or more, ends somewhere between its third and its ninth tenth."""
    at = int(len(pair.query) * chance.uniform(0.3, 0.9))
    return replace(pair, query=pair.query[:at].rstrip()) if len(words(pair.query)) > 4 else None


def chatter(pair: Pair, chance: Random) -> Pair:
    """The query comes after what an assistant says, in English or its own language."""
    own = _CHATTER.get(pair.query_language.split("-")[0], ())
    said = chance.choice(own) if own and chance.random() < 0.7 else chance.choice(_CHATTER["en"])
    return replace(pair, query=said + pair.query)


def template_token(pair: Pair, chance: Random) -> Pair:
    """A token of a chat template stands before or after the query."""
    token = chance.choice(_TEMPLATES)
    return replace(pair, query=f"{token}{pair.query}" if chance.random() < 0.3 else f"{pair.query}{token}")


def repeated_phrase(pair: Pair, chance: Random) -> Pair | None:
    """A phrase of two to six words of the query is said four to eight times at its end."""
    spans = words(pair.query)
    length = min(chance.randint(2, 6), len(spans))
    if length < 2:
        return None
    first = chance.randrange(len(spans) - length + 1)
    phrase = pair.query[spans[first][0] : spans[first + length - 1][1]]
    joint = " " if " " in pair.query.strip() else ""
    return replace(pair, query=pair.query + joint + joint.join([phrase] * chance.randint(4, 8)))


def mojibake(pair: Pair, chance: Random) -> Pair | None:
    """The query's UTF-8 was read as a code page of one byte a letter."""
    page = chance.choice(("latin-1", "cp1252"))
    broken = pair.query.encode().decode(page, errors="replace")
    return replace(pair, query=broken) if broken != pair.query else None


def untranslated(pair: Pair, chance: Random) -> Pair | None:  # noqa: ARG001 - one signature for all
    """The translation is the source again."""
    # Of one or two words it cannot be told: names are their own translations.
    return replace(pair, positive=pair.query) if len(words(pair.query)) >= 3 else None


def changed_number(pair: Pair, chance: Random) -> Pair | None:
    """One digit of a number that stands on both sides is another on one of them."""
    shared = set(_DIGITS.findall(pair.query)) & set(_DIGITS.findall(pair.positive))
    found = [match for match in _DIGITS.finditer(pair.positive) if match[0] in shared]
    if not found:
        return None
    match = chance.choice(found)
    at = chance.randrange(match.start(), match.end())
    digit = chance.choice([digit for digit in "123456789" if digit != pair.positive[at]])
    return replace(pair, positive=pair.positive[:at] + digit + pair.positive[at + 1 :])


def nearly_the_same(text: str, chance: Random) -> str:
    """The text with one word in twenty, one at least, changed for another made-up word."""
    spans = list(words(text))
    chosen = sorted(chance.sample(range(len(spans)), max(1, len(spans) // 20)), reverse=True)
    for start, end in (spans[number] for number in chosen):
        word = list(text[start:end])
        chance.shuffle(word)
        text = text[:start] + "".join(word[::-1]) + word[0] + text[end:]
    return text
