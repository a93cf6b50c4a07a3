"""How large things are before they are made: texts in characters, words, tokens and bytes, and the rows that hold them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import pyarrow as pa

from pipeline.draws import OTHERS, SAME
from pipeline.engines import bundled
from pipeline.engines.base import Engine
from pipeline.engines.vllm import Vllm
from pipeline.exporters.export import Export
from pipeline.languages import XLM_R, language
from pipeline.plan import Step, most_rows
from pipeline.prompts import Prompt
from pipeline.rates import Script, writing
from pipeline.rows import Example, Generation, Pair, Row, SearchedPair, Seed
from pipeline.segmentation import count_words
from pipeline.stages.base import MappedStage, Stage
from pipeline.stages.chunk import Chunk, Sentences
from pipeline.stages.generate import LENGTH, Generate
from pipeline.stages.index import Index
from pipeline.stages.negatives import HardNegatives
from pipeline.stages.no_corpus import BlankSeeds
from pipeline.stages.read_hf import HubReader
from pipeline.stages.sample import Sample
from pipeline.stages.search import Search
from pipeline.store import Artifact, read_table

PARTS_READ, ROWS_READ = 8, 64  # rows of several parts, since a corpus often comes language by language
DOCUMENT_WORDS = 500  # of a document that nothing is known of
PAIR_WORDS = 60
SAYS_IT_AGAIN = {"paraphrase", "translation", "contrast"}  # replies about as long as the text that they are about
TEXT_VARIABLES = ("text", "positive")
TEXT_COLUMNS = (("text", "language"), ("seed", "seed_language"), ("positive", "positive_language"))
PAIR_BYTES = 120  # an instruction, facets and scores
# Zstandard leaves about 0.45 of a text and 12 bytes of an id: fitted on a quickstart build, within a tenth for passages,
# queries and their pairs; sentences in parts of 30 to 150 rows take up to half more, as a file's own header weighs there.
# An index with the texts takes 2.0 of their bytes: texts 1.04, digests of words 0.7, and 0.2 of postings (20,000 passages of 80 words).
COMPRESSED, ID_BYTES, INDEX, HIT_BYTES = 0.45, 12, 2.0, 4

T = TypeVar("T")


@dataclass(frozen=True)
class Text:
    """A text that stands for many: its own words where it was read, else its language and length alone."""

    tag: str
    characters: float
    text: str = ""

    @property
    def writing(self) -> Script:
        return writing_of(self.tag)

    def cut(self, words: float) -> "Text":
        most = words * self.writing.word
        return self if self.characters <= most else Text(self.tag, most, self.text[: round(most)])


@dataclass(frozen=True)
class Vocabulary:
    """How many tokens a text is: by the tokenizer of the model where it is at hand, else by characters."""

    is_small: bool
    tokenizer: Any = None

    def of_text(self, text: Text) -> float:
        return self._count(text.text) if self.tokenizer and text.text else text.characters / self.characters(text.tag)

    def of_prompt(self, text: str) -> float:
        """A rendered prompt is English, but for what examples show in other scripts: of that, a token a character."""
        if self.tokenizer:
            return self._count(text)
        foreign = sum(character > "\u024f" and character.isalpha() for character in text)
        return (len(text) - foreign) / self.characters("en") + foreign

    def characters(self, tag: str) -> float:
        return writing_of(tag).small_token if self.is_small else writing_of(tag).token

    def _count(self, text: str) -> float:
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)


def vocabulary_of(engine: Engine) -> Vocabulary:
    if not isinstance(engine, Vllm):
        return Vocabulary(is_small=False)
    folder = bundled.folder() if engine.is_bundled else Path(engine.model).expanduser()
    return Vocabulary("smollm" in engine.model.lower(), _tokenizer(folder / "tokenizer.json"))


@lru_cache(maxsize=4)
def _tokenizer(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    return Tokenizer.from_file(str(path)) if path.is_file() else None


def texts_of(step: Step, build: Path) -> tuple[Text, ...]:
    """Texts that stand for those of a step's rows: a few that are committed, else made of what its stage says of them."""
    artifact, stage = step.artifact(build), step.stage
    if artifact.is_committed and (found := _committed(artifact, step.row_type)):
        return found
    if not step.inputs:
        return _unread(step)
    above = seed_texts(step, build)
    if isinstance(stage, Chunk):
        return tuple(text.cut(stage.words) for text in above)
    if isinstance(stage, Sentences):  # of 6 to 40 words they have 17 in the mean, as on the quickstart's corpus
        return tuple(text.cut(stage.min_words + (stage.max_words - stage.min_words) / 3) for text in above)
    if isinstance(stage, Sample) and stage.languages:
        words = fmean(text.characters / text.writing.word for text in above)
        kept = tuple(text for text in above if text.tag in stage.languages)
        return kept or tuple(Text(tag, words * writing_of(tag).word) for tag in stage.languages)
    return above


def seed_texts(step: Step, build: Path) -> tuple[Text, ...]:
    """Those of the rows that the step is made over, part by part."""
    return tuple(text for given in _over(step) for text in texts_of(given, build))


def _over(step: Step) -> tuple[Step, ...]:
    stage = step.stage
    return step.inputs[stage.over] if isinstance(stage, MappedStage) else next(iter(step.inputs.values()), ())


def _unread(step: Step) -> tuple[Text, ...]:
    """What a reader may give: nothing is known of its texts, and of their languages only what the config says."""
    tags = _languages(step.stage)
    words = 0 if issubclass(step.row_type, Seed) else PAIR_WORDS if issubclass(step.row_type, Pair) else DOCUMENT_WORDS
    return tuple(Text(tag, words * writing_of(tag).word) for tag in tags)


def _languages(stage: Stage) -> tuple[str, ...]:
    if isinstance(stage, BlankSeeds):
        return tuple(stage.languages[OTHERS])
    if isinstance(stage, HubReader) and stage.languages:
        return stage.languages
    tag = getattr(stage, "language", "auto")
    return XLM_R if tag == "auto" else (tag,)


def _committed(artifact: Artifact, row_type: type[Row]) -> tuple[Text, ...]:
    columns = next((pair for pair in TEXT_COLUMNS if pair[0] in row_type.schema.names), None)
    return _read(artifact.folder, columns) if columns else ()


@lru_cache(maxsize=64)
def _read(folder: Path, columns: tuple[str, str]) -> tuple[Text, ...]:
    """A few texts of what is committed there, evenly from a few of its parts; the columns are their text and language."""
    texts: list[Text] = []
    paths = few(Artifact(folder).row_paths(), PARTS_READ)
    for path in paths:
        table = read_table(path, columns)
        numbers = pa.array(few(range(table.num_rows), ROWS_READ // len(paths)), pa.int64())
        values = zip(*(table.column(name).take(numbers).to_pylist() for name in columns), strict=True)
        texts += (Text(tag, len(text), text) for text, tag in values)
    return tuple(texts)


def few(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, evenly."""
    return list(items[:: max(1, -(-len(items) // most))])


def written(step: Step, texts: Sequence[Text]) -> Iterator[tuple[str, float, float]]:
    """What the step's replies write: a language, how many words, and the share of replies that do."""
    assert isinstance(step.stage, Generate)
    prompt = step.prompts[step.stage.prompt]
    if prompt.choices or prompt.reply == "verdict":
        return
    words = _requested_words(step.stage, prompt)
    for text in texts:
        again = text.characters / text.writing.word if prompt.reply in SAYS_IT_AGAIN else 0
        targets = _targets(step.stage, prompt, text.tag)
        for tag, weight in targets.items():
            yield tag, again or words, weight / sum(targets.values()) / len(texts)


def _requested_words(stage: Generate, prompt: Prompt) -> float:
    """The words of a reply: the middle of the lengths asked for, else as many as in the worked examples."""
    if stage.length and LENGTH in prompt.variables and prompt.reply == "query":
        middles = {name: fmean(map(int, name.split("-"))) for name in stage.length}
        return sum(middles[name] * weight for name, weight in stage.length.items()) / sum(stage.length.values())
    replies = [prompt.shape().model_validate(example["reply"]).texts for example in prompt.examples]
    fields = len(prompt.shape().model_fields)
    return fmean(sum(map(count_words, texts)) for texts in replies) if replies else 15 * fields


def _targets(stage: Generate, prompt: Prompt, tag: str) -> dict[str, float]:
    if "language" not in prompt.variables:
        return {"en": 1.0}
    rule = stage.language.get(tag, stage.language.get(OTHERS, {SAME: 1.0}))
    targets = {tag if name == SAME else name: weight for name, weight in rule.items()}
    others = {name: weight for name, weight in targets.items() if name != tag}
    return others if others and prompt.reply == "translation" else targets


def _upward(step: Step) -> Iterator[Step]:
    """The step, and those that its rows come from, the nearest first."""
    yield step
    for above in _over(step)[:1]:
        yield from _upward(above)


def row_bytes(step: Step, build: Path) -> float:
    """Bytes on disk of one row, by its type."""
    if isinstance(step.stage, Index):
        return 0.0  # what it builds is counted by `index_bytes`
    text = _text_bytes(step, build)
    reply = _reply_bytes(step, build) if issubclass(step.row_type, Generation | Pair) else 0
    line = [one.stage for one in _upward(step)]
    negatives = next((stage.take for stage in line if isinstance(stage, HardNegatives)), 0)
    hits = next((stage.k for stage in line if isinstance(stage, Search)), 0)
    of_pair = COMPRESSED * (text + reply + PAIR_BYTES) + 5 * ID_BYTES
    if issubclass(step.row_type, Example):
        copies = 1 + (step.stage.copies if isinstance(step.stage, Export) else 0)
        return copies * (of_pair + negatives * (COMPRESSED * text + ID_BYTES))
    if issubclass(step.row_type, SearchedPair):
        return of_pair + hits * HIT_BYTES
    if issubclass(step.row_type, Pair):
        return of_pair
    return COMPRESSED * (text + reply) + (3 if issubclass(step.row_type, Generation) else 2) * ID_BYTES


def _reply_bytes(step: Step, build: Path) -> float:
    """What the nearest model above wrote; of a pair that a user brought, as much as a query."""
    writer = next((one for one in _upward(step) if isinstance(one.stage, Generate)), None)
    return _written_bytes(writer, build) if writer else 0.0


@lru_cache(maxsize=64)
def _written_bytes(step: Step, build: Path) -> float:
    return sum(
        share * words * writing_of(tag).word * writing_of(tag).bytes
        for tag, words, share in written(step, seed_texts(step, build))
    )


def index_bytes(step: Step, build: Path) -> float | None:
    """What the index of a corpus takes, the texts with it; None where nothing bounds its rows."""
    corpora = step.inputs["input"] if isinstance(step.stage, Index) else ()
    bounds = [most_rows(corpus, build) for corpus in corpora]
    if None in bounds:
        return None
    return sum(INDEX * (rows or 0) * _text_bytes(corpus, build) for rows, corpus in zip(bounds, corpora, strict=True))


def _text_bytes(step: Step, build: Path) -> float:
    return fmean(text.characters * text.writing.bytes for text in texts_of(step, build))


@lru_cache(maxsize=1024)
def writing_of(tag: str) -> Script:
    return writing(tag, language(tag).script)
