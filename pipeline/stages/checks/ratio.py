"""The check that a translation is about as long as its sentence, by the pair of languages.

How long is as long is measured, not guessed: the Universal Declaration says the same in 90 languages. Chinese says it in a
quarter of English's letters and Burmese in half as many again, so one constant for all fits none. What is left to tolerate is
chance, which weighs in short texts: the variance of a log ratio falls with length as that of counted letters does (Gale and
Church, 1993), down to a floor of style.
"""

from collections.abc import Mapping
from functools import lru_cache
from math import exp, log, sqrt
from statistics import median
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.languages import language, primary_code
from pipeline.rows import Pair, Task
from pipeline.stages.checks.base import Check, Fault, fault

_PERCENT = (
    "af 97 am 34 ar 69 az 99 be 109 bg 110 bn 88 br 98 bs 94 ca 104 cs 98 cy 95 da 100 de 112 el 121 en 100 eo 91 es 115 "
    "et 100 eu 105 fa 87 fi 102 fil 118 fr 110 fy 110 ga 111 gd 112 gl 107 gu 93 ha 133 he 67 hi 100 hr 93 hu 115 hy 107 "
    "id 119 is 94 it 111 ja 40 jv 125 ka 112 kk 103 km 99 kn 98 ko 45 ku 90 ky 108 la 91 lo 99 lt 102 lv 100 mg 106 "
    "mk 102 ml 106 mn 98 mr 106 ms 117 my 142 ne 93 nl 119 no 98 om 99 pa 101 pl 106 ps 94 pt 102 ro 113 ru 111 sa 92 "
    "si 101 sk 99 sl 100 so 111 sq 107 sr 93 su 115 sv 100 sw 90 ta 127 te 106 th 88 tr 95 ug 115 uk 102 ur 90 uz 117 "
    "vi 120 xh 100 yi 112 zh 25"
)
"""Characters for every hundred of English: the median over the 30 articles of the Universal Declaration of Human Rights,
each weighed by its length, in the translations that the UN's High Commissioner publishes."""
# In other texts languages differ less than in a lawyer's: the medians of 44 languages in translated sentences and encyclopaedia
# paragraphs are this power of the figures above (0.83), and stray from it by 0.08.
_PLAINER = 0.8
# 99.3 % and more of what people translated keeps within these, in all but a few languages of 63.
_STYLE, _CHANCE = 0.2, 5.0
_HALF_A_LETTER = 0.5
_FAMILIES = MappingProxyType({"Hant": "Hans", "Hani": "Hans"})


class LengthRatio(Check):
    """Each side is as long as the other lets expect, in their two languages. Reason: length_ratio.

    Score and threshold are how many times as long one side is as expected, and may be. `tolerance` is that threshold's power:
    at 1, two sentences of 30 letters may be 2.1 times as long, paragraphs of 600 letters 1.6 times, and of 10 letters 3. Half a
    paragraph is thus found, and half a short sentence mostly not.
    """

    made_for: ClassVar[tuple[Task, ...]] = ("bitext",)
    kind: Literal["length_ratio"] = "length_ratio"
    tolerance: Annotated[float, Field(gt=0)] = 1.0

    def _fault(self, pair: Pair) -> Fault | None:
        query, positive = pair.query.strip(), pair.positive.strip()
        off = log(_weight(positive, pair.positive_language) / _weight(query, pair.query_language))
        chance = _CHANCE / (len(query) + _HALF_A_LETTER) + _CHANCE / (len(positive) + _HALF_A_LETTER)
        allowed = self.tolerance * sqrt(_STYLE + chance)
        if -allowed <= off <= allowed:
            return None
        side, times, most = ("positive" if off > 0 else "query", exp(abs(off)), exp(allowed))
        detail = f"{side} {times:.1f} times as long as expected, at most {most:.1f}: {query[:80]} | {positive[:80]}"
        return fault("length_ratio", detail, times, most)


def _weight(text: str, tag: str) -> float:
    """The length of a text in letters of English.

    Where a sign is a word or a syllable, Latin letters between the signs (names, mostly) count as what they are.
    """
    letters = expansion(tag)
    if letters > _SYLLABIC:
        return (len(text) + _HALF_A_LETTER) / letters
    plain = len(text.encode("ascii", "ignore"))
    return plain + (len(text) - plain + _HALF_A_LETTER) / letters


_SYLLABIC = 0.6


@lru_cache(maxsize=1024)
def expansion(tag: str) -> float:
    """How many characters a language needs for what English says in one; in a script not its first, as its neighbours there."""
    code, script = primary_code(tag), language(tag).script
    measured = _measured()
    if code in measured and _family(language(code).script) == _family(script):
        return measured[code]
    return _by_script().get(_family(script), 1.0)


def _family(script: str) -> str:
    return _FAMILIES.get(script, script)


@lru_cache(maxsize=1)
def _measured() -> Mapping[str, float]:
    figures = _PERCENT.split()
    return {code: (int(percent) / 100) ** _PLAINER for code, percent in zip(figures[::2], figures[1::2], strict=True)}


@lru_cache(maxsize=1)
def _by_script() -> Mapping[str, float]:
    scripts: dict[str, list[float]] = {}
    for code, letters in _measured().items():
        scripts.setdefault(language(code).script, []).append(letters)
    return {script: median(all_letters) for script, all_letters in scripts.items()}
