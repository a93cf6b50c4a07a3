import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import commit, pair
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import work
from pipeline.rows import Document, Pair, Passage, Reject, Row, from_table
from pipeline.segmentation import words
from pipeline.stages import near_dedup
from pipeline.stages.base import StageError
from pipeline.stages.minhash import band_keys, banding, grams_of, signatures, similarities
from pipeline.stages.near_dedup import NearDedup
from pipeline.store import Artifact
from pipeline.work import Job

LONG = {
    "en": [
        "When the ferry came round the headland that evening the children were already waiting on the quay with lanterns in their hands and cold feet",
        "Our neighbour keeps eleven hens behind the old bakery and sells the eggs on Saturday mornings to anyone who brings a box and some patience",
        "The mountain road was closed for most of the winter because a slide had carried away the bridge and nobody could agree who should pay",
        "A good clock maker listens first and opens the case much later since the sound of the movement often tells him which wheel is worn",
    ],
    "th": [
        "เมื่อเรือข้ามฟากแล่นอ้อมแหลมมาในเย็นวันนั้น เด็กๆ ก็ยืนรออยู่บนท่าเรือพร้อมโคมไฟในมือแล้ว และทุกคนต่างก็หนาวเท้ากันมาก",
        "เพื่อนบ้านของเราเลี้ยงไก่สิบเอ็ดตัวไว้หลังร้านขนมปังเก่า และขายไข่ในเช้าวันเสาร์ให้กับทุกคนที่นำกล่องมาเอง",
        "ถนนบนภูเขาปิดเกือบตลอดฤดูหนาวเพราะดินถล่มพัดสะพานหายไป และไม่มีใครตกลงกันได้ว่าใครควรเป็นคนจ่ายเงิน",
        "ช่างทำนาฬิกาที่ดีจะฟังเสียงก่อนแล้วจึงเปิดฝาทีหลัง เพราะเสียงของเครื่องมักบอกเขาได้ว่าเฟืองตัวไหนสึกหรอ",
    ],
    "zh": [
        "那天傍晚渡船绕过海角的时候，孩子们已经提着灯笼站在码头上等了很久，大家的脚都冻得冰凉，却没有一个人愿意先回家去吃饭",
        "我们的邻居在旧面包房后面养了十一只母鸡，每到星期六早上就把鸡蛋卖给自己带着盒子来而且愿意耐心排队的人，从来不涨价",
        "山上的公路整个冬天几乎都关闭着，因为一次塌方冲走了桥，而村里的人怎么也商量不出到底应该由谁来付修桥的钱",
        "好的钟表匠总是先听声音，过很久才打开外壳，因为机芯走动的声音往往能告诉他究竟是哪一个齿轮已经磨损得太厉害了",
    ],
    "ar": [
        "عندما دارت العبارة حول الرأس في ذلك المساء كان الأطفال ينتظرون على الرصيف وفي أيديهم الفوانيس وأقدامهم باردة جدا ولم يرغب أحد في العودة إلى البيت",
        "يربي جارنا إحدى عشرة دجاجة خلف المخبز القديم ويبيع البيض صباح كل سبت لكل من يحضر معه صندوقا وقليلا من الصبر ولا يرفع السعر أبدا",
        "ظل طريق الجبل مغلقا معظم الشتاء لأن انهيارا جرف الجسر ولم يستطع أحد في القرية أن يتفق مع غيره على من يجب أن يدفع الثمن",
        "صانع الساعات الجيد يستمع أولا ثم يفتح الغطاء بعد وقت طويل لأن صوت الحركة يخبره في الغالب أي ترس من التروس قد تآكل كثيرا",
    ],
}
"""Sentences of 20 words and more."""


def document(doc_id: str, text: str, language: str = "en") -> Document:
    return Document(doc_id, text, None, language)


def documents(*texts: str) -> list[Document]:
    return [document(f"d{number:05}", text) for number, text in enumerate(texts)]


def judged(
    stage: NearDedup, folder: Path, rows: Sequence[Row], part_rows: int = 1000
) -> tuple[dict[str, Any], dict[str, Reject]]:
    """The rows that stay and the rejects, by id."""
    row_type = type(rows[0])
    given = commit(folder / "rows", row_type, rows, part_rows)
    job = Job("near", stage, row_type, Artifact(folder / "near"), {"input": given}, {}, {}, 1000, 1)
    compare(job)
    for number in range(len(job.paths)):
        work.run_part(job, number)
    work._OPEN.clear()
    kept = [row for path in job.artifact.row_paths() for row in from_table(row_type, pq.read_table(path))]
    rejects = [one for path in job.artifact.reject_paths() for one in from_table(Reject, pq.read_table(path))]
    assert sorted([*(row.row_id for row in kept), *(one.rejected_id for one in rejects)]) == sorted(
        row.row_id for row in rows
    )
    return {row.row_id: row for row in kept}, {one.rejected_id: one for one in rejects}


def compare(job: Job) -> None:
    """Spread, gather and build, as the runner has workers do it."""
    assert isinstance(job.stage, NearDedup)
    for number, share in enumerate(work.cut_in_shares(job)):
        work.spread(job, share, number)
    for bucket in range(job.stage.buckets(job.over.count())):
        work.gather(job, bucket)
    work.build(job)


def changed(text: str, rng: random.Random, others: Sequence[str], every: int = 20) -> str:
    """The text with one word of `every`, and at least one, replaced by another."""
    spans = list(words(text))
    chosen = rng.sample(spans, max(1, len(spans) // every))
    for start, end in sorted(chosen, reverse=True):
        text = text[:start] + rng.choice([word for word in others if word != text[start:end]]) + text[end:]
    return text


@pytest.mark.parametrize("language", list(LONG))
def test_copies_with_one_word_of_twenty_changed_are_found(tmp_path: Path, language: str) -> None:
    rng = random.Random(0)
    texts = LONG[language]
    others = [text[start:end] for text in texts for start, end in words(text)]
    rows = [document(f"a{number}", text, language) for number, text in enumerate(texts)]
    copies = {
        f"b{number}-{time}": changed(text, rng, others) for number, text in enumerate(texts) for time in range(50)
    }
    rows += [document(row_id, text, language) for row_id, text in copies.items()]
    kept, rejects = judged(NearDedup(input="x"), tmp_path, rows)
    found = sum(one.detail == f"of a{row_id[1]}" for row_id, one in rejects.items())
    assert found >= 0.97 * len(copies)
    assert {f"a{number}" for number in range(len(texts))} <= set(kept)


@pytest.mark.parametrize(
    ("template", "places"),
    [
        ("What is the population of {}?", "Spain Italy Norway Ghana Peru"),
        ("What is the capital of {}?", "Spain Italy Norway Ghana Peru"),
        ("{}的人口是多少？", "西班牙 意大利 挪威 加纳 秘鲁"),
        ("จังหวัด{}มีประชากรเท่าไร", "เชียงใหม่ ขอนแก่น ระยอง ตรัง น่าน"),
        ("ما هو عدد سكان {}؟", "إسبانيا إيطاليا النرويج غانا بيرو"),
    ],
)
def test_short_questions_made_from_one_template_stay_apart(tmp_path: Path, template: str, places: str) -> None:
    kept, rejects = judged(NearDedup(input="x"), tmp_path, documents(*map(template.format, places.split())))
    assert len(kept) == 5
    assert not rejects


def test_a_reject_says_of_which_and_how_near(tmp_path: Path) -> None:
    text = LONG["en"][0]
    near = text.replace("evening", "morning")
    kept, rejects = judged(NearDedup(input="x"), tmp_path, documents(text, near, LONG["en"][1]))
    (reject,) = rejects.values()
    assert (reject.rejected_id, reject.reason, reject.detail) == ("d00001", "near_duplicate", "of d00000")
    assert reject.threshold == 0.75
    assert reject.score == similarities([text.casefold(), near.casefold()], 5, np.array([0]), np.array([1]))[0]
    assert kept["d00000"].clusters == {"text": "d00000"}
    assert kept["d00002"].clusters == {}


def test_empty_texts_are_like_no_other_and_letters_like_themselves(tmp_path: Path) -> None:
    kept, rejects = judged(NearDedup(input="x"), tmp_path, documents("", " ", "a", "b", "A.", "西", "西", "ก"))
    assert {row_id: one.detail for row_id, one in rejects.items()} == {"d00004": "of d00002", "d00006": "of d00005"}
    assert not kept["d00000"].clusters


def test_ten_thousand_equal_texts_send_as_many_keys_and_make_as_many_pairs(tmp_path: Path) -> None:
    counted: list[int] = []
    sent: list[int] = []

    class Counting(NearDedup):
        share_rows = 2000

        def _near(self, one: Any, other: Any, compared: Any) -> Any:
            counted.append(len(one))
            return super()._near(one, other, compared)

        def gather(self, bucket: Any, context: Any) -> Any:
            sent.append(len(bucket))
            return super().gather(bucket, context)

    kept, rejects = judged(Counting(input="x"), tmp_path, documents(*[LONG["en"][0]] * 10_000))
    assert list(kept) == ["d00000"]
    assert {(one.detail, one.score) for one in rejects.values()} == {("of d00000", 1.0)}
    assert sum(counted) < 11_000
    assert sum(sent) < 11_000


def test_a_chain_of_near_texts_is_one_cluster_though_its_ends_are_not_near(tmp_path: Path) -> None:
    text = LONG["en"][0].split()
    chain = [" ".join([*"abcdefghijklmnopqrst"[:step], *text[step * 2 :]]) for step in range(8)]
    ends = similarities([chain[0], chain[-1]], 5, np.array([0]), np.array([1]))[0]
    assert ends < 0.5
    _, rejects = judged(NearDedup(input="x", similarity=0.7), tmp_path, documents(*chain))
    assert {one.detail for one in rejects.values()} == {"of d00000"}
    assert len(rejects) == 7
    assert all(one.score is not None and one.score >= 0.7 for one in rejects.values())


def test_keep_all_marks_the_rows_and_rejects_none(tmp_path: Path) -> None:
    rows = documents(LONG["en"][0], LONG["en"][0].upper(), LONG["en"][1])
    kept, rejects = judged(NearDedup(input="x", keep="all"), tmp_path, rows)
    assert not rejects
    assert [row.clusters for row in kept.values()] == [{"text": "d00000"}, {"text": "d00000"}, {}]


@pytest.mark.parametrize(("best", "stays"), [(None, "a"), ("cosine", "c"), ("unheard_of", "a")])
def test_the_row_with_the_best_score_stays_and_else_the_least_id(tmp_path: Path, best: str | None, stays: str) -> None:
    scores: list[dict[str, float]] = [{"cosine": 0.5}, {}, {"cosine": 0.9}, {"cosine": float("nan")}, {"cosine": 0.9}]
    rows = [pair(pair_id=name, query=LONG["en"][0], scores=its) for name, its in zip("abcde", scores, strict=True)]
    kept, rejects = judged(NearDedup(input="x", best=best), tmp_path, rows)
    assert list(kept) == [stays]
    assert {one.detail for one in rejects.values()} == {f"of {stays}"}


def near_pairs(**other: Any) -> list[Pair]:
    """A pair and another like it, but for what is given."""
    one = {"query": LONG["en"][0], "positive": LONG["en"][1], "query_language": "en", "positive_language": "en"}
    return [pair(pair_id="a", **one), pair(pair_id="b", **{**one, **other})]


@pytest.mark.parametrize(
    ("by", "other", "cluster"),
    [
        ("query", {"positive": "Another."}, "query"),
        ("query", {"query": "Another."}, None),
        ("query", {"query_language": "de"}, None),
        ("query", {"positive_language": "de"}, "query"),
        ("query", {"task": "similarity"}, None),
        ("positive", {"query": "Another."}, "positive"),
        ("positive", {"positive_language": "de"}, None),
        ("pair", {}, "pair"),
        ("pair", {"query": "Another."}, None),
        ("pair", {"positive": "Another."}, None),
        ("pair", {"positive": LONG["en"][1].replace("hens", "ducks")}, "pair"),
        (None, {"positive": "Another."}, "query"),
        ("written", {"query": "Another."}, None),
    ],
)
def test_pairs_are_compared_by_the_side_that_is_named(
    tmp_path: Path, by: Any, other: dict[str, str], cluster: str | None
) -> None:
    kept, rejects = judged(NearDedup(input="x", by=by), tmp_path, near_pairs(**other))
    assert kept["a"].clusters == ({cluster: "a"} if cluster else {})
    assert list(rejects) == (["b"] if cluster else [])


@pytest.mark.parametrize(
    ("task", "same", "cluster"),
    [
        ("bitext", "positive", "positive"),
        ("bitext", "query", None),
        ("similarity", "positive", "positive"),
        ("classification", "positive", None),
        ("classification", "query", None),
    ],
)
def test_what_was_written_depends_on_the_task_and_many_texts_are_of_one_class(
    tmp_path: Path, task: Any, same: str, cluster: str | None
) -> None:
    rows = [
        pair(pair_id=name, task=task, **{"query": text, "positive": text, same: LONG["en"][0]})
        for name, text in zip("ab", LONG["en"][1:], strict=False)
    ]
    kept, _ = judged(NearDedup(input="x", by="written"), tmp_path, rows)
    assert kept["a"].clusters == ({cluster: "a"} if cluster else {})
    assert len(kept) == (1 if cluster else 2)


def test_passages_of_different_languages_are_not_compared(tmp_path: Path) -> None:
    rows = [Passage(f"p{number}", "d", LONG["en"][0], None, tag, 0, 1) for number, tag in enumerate(["en", "de", "en"])]
    kept, rejects = judged(NearDedup(input="x"), tmp_path, rows)
    assert list(kept) == ["p0", "p1"]
    assert list(rejects) == ["p2"]


@pytest.mark.parametrize(
    ("stage", "row_type", "key"),
    [
        (NearDedup(input="x", by="query"), Document, "by"),
        (NearDedup(input="x", by="text"), Pair, "by"),
        (NearDedup(input="x", best="cosine"), Passage, "best"),
    ],
)
def test_what_rows_do_not_have_is_told_before_the_build(stage: NearDedup, row_type: type[Row], key: str) -> None:
    with pytest.raises(StageError, match=f"^{key}: {row_type.__name__} rows"):
        stage.gives({"input": row_type})


def test_one_row_that_comes_in_twice_stops_the_step(tmp_path: Path) -> None:
    given = [commit(tmp_path / name, Document, documents("The same text.")) for name in "xy"]
    both = type(given[0])(Document, tuple(artifact for one in given for artifact in one.artifacts))
    job = Job("near", NearDedup(input="x"), Document, Artifact(tmp_path / "near"), {"input": both}, {}, {}, 9, 1)
    with pytest.raises(StageError, match="row d00000 comes in twice"):
        compare(job)


# Texts from few words, so that they are near in all degrees, with equal ones among them.
TEXTS = st.lists(
    st.lists(st.sampled_from(["hen", "ferry", "lantern", "mountain", "clock"]), min_size=0, max_size=9), max_size=30
)


@settings(deadline=None, max_examples=40)
@given(
    texts=TEXTS,
    seed=st.integers(0, 99),
    part_rows=st.sampled_from([3, 1000]),
    share=st.sampled_from([1, 7, 1000]),
    keys=st.sampled_from([20, 1000]),
    few=st.sampled_from([1, 10]),
    similarity=st.sampled_from([0.3, 0.75]),
    all_meet=st.booleans(),
)
def test_clusters_depend_on_neither_order_nor_parts_nor_shares_nor_buckets(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[list[str]],
    seed: int,
    part_rows: int,
    share: int,
    keys: int,
    few: int,
    similarity: float,
    all_meet: bool,
) -> None:
    class Whole(NearDedup):
        neighbours = few

    class Small(Whole):
        share_rows = share
        keys_at_once = keys
        letters_at_once = 50

    rows = documents(*map(" ".join, texts)) or documents("")
    folder = tmp_path_factory.mktemp("near")
    shuffled = random.Random(seed).sample(rows, len(rows))
    with pytest.MonkeyPatch.context() as patched:
        if all_meet:
            patched.setattr(near_dedup, "band_keys", same_keys)
        first = judged(Whole(input="x", similarity=similarity), folder / "one", rows)
        assert judged(Small(input="x", similarity=similarity), folder / "other", shuffled, part_rows) == first


def same_keys(signed: Any, cut: Any, of: Any) -> Any:
    """One key a band for all rows, so that only what is done with rows that met decides."""
    return np.repeat(np.arange(cut.bands, dtype=np.uint64)[:, None], len(signed), axis=1)


@settings(deadline=None, max_examples=40)
@given(texts=TEXTS, similarity=st.sampled_from([0.3, 0.5, 0.75, 1.0]), seed=st.integers(0, 99))
def test_if_all_rows_meet_the_clusters_are_those_of_all_compared_with_all(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]], similarity: float, seed: int
) -> None:
    class Sure(NearDedup):
        neighbours = 100

    rng = random.Random(seed)
    rows = [document(f"d{number:02}", " ".join(text), rng.choice(["en", "de"])) for number, text in enumerate(texts)]
    stage = Sure(input="x", similarity=similarity, keep="all")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(near_dedup, "band_keys", same_keys)
        kept, _ = judged(stage, tmp_path_factory.mktemp("near"), rows or documents("a"))
    found = [kept[row.doc_id].clusters.get("text", row.doc_id) for row in rows]
    assert found == [rows[least].doc_id for least in components(rows, similarity)]


def components(rows: Sequence[Document], similarity: float) -> list[int]:
    """For each row the least number in its component, by comparing all with all."""
    sets = [gram_set(row.text) if row.text else set() for row in rows]
    of = list(range(len(rows)))
    for one in range(len(rows)):
        for other in range(one):
            shared, together = len(sets[one] & sets[other]), len(sets[one] | sets[other])
            if rows[one].language == rows[other].language and together and shared / together >= similarity:
                least = min(of[one], of[other])
                of = [least if its in (of[one], of[other]) else its for its in of]
    return of


def gram_set(text: str, gram: int = 5) -> set[str]:
    padded = "\n" * (gram - 1) + text + "\n" * (gram - 1)
    return {padded[at : at + gram] for at in range(len(padded) - gram + 1)}


@given(texts=st.lists(st.text(st.sampled_from("abc é"), max_size=12), min_size=1, max_size=8), gram=st.integers(1, 7))
def test_similarity_is_jaccards_of_grams_that_reach_over_both_ends(texts: list[str], gram: int) -> None:
    one, other = np.divmod(np.arange(len(texts) ** 2), len(texts))
    expected = []
    for left, right in zip(one, other, strict=True):
        sets = [gram_set(texts[at], gram) if texts[at] else set() for at in (left, right)]
        expected.append(len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1])))
    assert similarities(texts, gram, one, other).tolist() == expected


@pytest.mark.parametrize(
    ("text", "grams"),
    [("", 0), ("a", 5), ("abcdef", 10), ("西", 2), ("西班牙", 4), ("ไทย", 5), ("한국", 4), ("西a", 3), ("a西", 6)],
)
def test_grams_are_shorter_where_a_character_says_more(text: str, grams: int) -> None:
    assert len(grams_of(["x", text, "西"], 5).hashes) - len(grams_of(["x", "西"], 5).hashes) == grams


@given(st.lists(st.text(max_size=20), max_size=5))
def test_no_text_is_too_odd_to_be_cut(texts: list[str]) -> None:
    cut = grams_of([text.replace("\n", " ") for text in [*texts, "\x00", "\ud800", "e" + "\u0301" * 50]], 5)
    assert cut.offsets[-1] == len(cut.hashes)


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.75, 0.8, 0.95, 1.0])
def test_bands_meet_the_recall_that_is_asked_for_with_as_few_values_as_allowed(similarity: float) -> None:
    cut = banding(similarity, recall=0.98, most=128)
    assert 1 - (1 - similarity**cut.rows) ** cut.bands >= 0.98
    assert cut.values <= 128


def test_texts_as_near_as_asked_for_share_a_key_and_others_seldom_do() -> None:
    rng = random.Random(1)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(999)]
    texts = [" ".join(rng.choices(vocabulary, k=12)) for _ in range(2000)]
    copies = [changed(text, rng, vocabulary, every=12) for text in texts]
    cut = banding(0.75)
    none = np.zeros(len(texts), np.uint64)
    keys, others = (band_keys(signatures(grams_of(some, 5), cut.values), cut, none) for some in (texts, copies))
    numbers = np.arange(len(texts))
    similar = similarities([*texts, *copies], 5, numbers, numbers + len(texts))
    assert (keys == others).any(axis=0)[similar >= 0.75].mean() >= 0.97
    assert (keys == np.roll(others, 1, axis=1)).any(axis=0).mean() < 0.01
    assert not (keys == band_keys(signatures(grams_of(texts, 5), cut.values), cut, none + np.uint64(1))).any()


def pairs_alike(*sources: str, **scores: float) -> list[Pair]:
    """Pairs p0, p1, … that ask nearly the same, each of a source."""
    return [
        pair(
            pair_id=f"p{number}",
            query=f"{LONG['en'][0]} {'and so' if number % 2 else 'and then'} on",
            source=source,
            scores={"judge": scores[f"p{number}"]} if f"p{number}" in scores else {},
        )
        for number, source in enumerate(sources)
    ]


def test_the_row_of_the_source_that_is_preferred_stays_before_a_better_score_and_a_lesser_id(tmp_path: Path) -> None:
    rows = pairs_alike("synthetic", "nq", "msmarco", "msmarco", p0=0.9, p2=0.1, p3=0.2)
    stage = NearDedup(input="x", by="query", best="judge", prefer=["msmarco", "nq"])
    kept, rejects = judged(stage, tmp_path, rows)
    assert set(kept) == {"p3"}
    assert {one.detail for one in rejects.values()} == {"of p3"}


def test_a_row_that_comes_in_twice_is_refused_whatever_its_sources_are(tmp_path: Path) -> None:
    rows = pairs_alike("nq", "nq", "mr")
    twice = [*rows[:2], dataclasses.replace(rows[2], pair_id="p0")]
    with pytest.raises(StageError, match="row p0 comes in twice"):
        judged(NearDedup(input="x", by="query", prefer=["nq", "mr"]), tmp_path, twice)


def test_a_preferred_source_that_no_row_is_of_is_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="prefer: no row of msmaco; there are rows of msmarco, nq"):
        judged(NearDedup(input="x", by="query", prefer=["nq", "msmaco"]), tmp_path, pairs_alike("nq", "msmarco"))


def test_documents_have_no_source_to_prefer() -> None:
    with pytest.raises(StageError, match="prefer: Document rows have no source"):
        NearDedup(input="x", prefer=["nq"]).gives({"input": Document})
