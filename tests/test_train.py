"""Training on a release: what is read, what the loss is, how a decoder becomes an embedding model, what is measured."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import measure as measuring
from examples import train as training
from examples.losses import DIRECTIONS, Objective, check, loss, masked_info_nce
from examples.measure import Collection, best, graded, measure, read_beir
from examples.models import ends_in_eos, start
from examples.train import Options, in_order, main, read_rows, train
from pipeline.engines import bundled
from pipeline.engines.base import EngineError

torch = pytest.importorskip("torch")

FIVE = DIRECTIONS["five"]
ASKED = "Instruct: find it\nQuery:"
COLOURS = ["red", "green", "blue", "black", "white", "grey", "pink", "brown"]


def rows_of(count: int, negatives: int = 2) -> dict[str, list[str]]:
    """Rows whose query and positive share the name of a colour."""
    names = [COLOURS[number % len(COLOURS)] for number in range(count)]
    columns = {
        "anchor": [f"{ASKED}which is {name}" for name in names],
        "positive": [f"the {name} one" for name in names],
    }
    for number in range(negatives):
        columns[f"negative_{number + 1}"] = [
            f"the {COLOURS[(place + number + 1) % len(COLOURS)]} one" for place in range(count)
        ]
    return columns


def write_config(folder: Path, columns: dict[str, list[str]], shards: int = 1) -> Path:
    folder.mkdir(parents=True)
    table = pa.table(columns)
    for number in range(shards):
        part = table.slice(number * len(table) // shards, len(table) // shards)
        pq.write_table(part, folder / f"train-{number:05}-of-{shards:05}.parquet")
    return folder


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """So small a model is slower on more, the more so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory) -> Path:
    """A causal model of two layers with random weights, and a tokenizer of words that puts nothing behind a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    words = ["Instruct", ":", "find", "it", "Query", "which", "is", "the", "one", ".", "a", "b", "c"]
    vocabulary = {word: number for number, word in enumerate(["<unk>", "<end>", *words, *COLOURS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("decoder")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    LlamaModel(
        LlamaConfig(
            vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, eos_token_id=1, pad_token_id=1,
        )
    ).save_pretrained(folder)  # fmt: skip
    return folder


def by_hand(queries, positives, negatives, margin: float, scale: float) -> float:
    """The loss as it is written down: a sum for each row over what is not masked."""
    total = 0.0
    documents = [*positives, *negatives]
    for row, query in enumerate(queries):
        right = float(query @ positives[row])
        terms = [right]
        scored = [(float(query @ one), one, place) for place, one in enumerate(documents) if place != row]
        terms += [score for score, one, _ in scored if float(one @ positives[row]) < 1 - 1e-5]
        terms += [float(query @ one) for place, one in enumerate(queries) if place != row]
        terms += [
            score
            for place, one in enumerate(documents)
            if place % len(queries) != row and (score := float(one @ positives[row])) < 1 - 1e-5
        ]
        total -= math.log(
            math.exp(scale * right) / sum(math.exp(scale * one) for one in terms if one <= right + margin)
        )
    return total / len(queries)


def drawn(seed: int, rows: int, columns: int, size: int = 6) -> list:
    made = torch.Generator().manual_seed(seed)
    return [torch.nn.functional.normalize(torch.randn(rows, size, generator=made), dim=1) for _ in range(columns)]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 5), negatives=st.integers(0, 3), margin=st.floats(0, 1.5))
def test_the_masked_loss_is_the_five_terms_by_hand(seed, rows, negatives, margin):
    queries, positives, *others = drawn(seed, rows, 2 + negatives)
    got = float(masked_info_nce([queries, positives, *others], FIVE, 5.0, margin))
    expected = by_hand(queries.numpy(), positives.numpy(), [one.numpy() for its in others for one in its], margin, 5.0)
    assert got == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("terms", ["five", "one"])
def test_a_margin_that_masks_nothing_gives_the_loss_of_the_library(terms):
    library = loss(None, Objective(terms, margin=None))
    embeddings = drawn(3, 4, 4)
    expected = float(library.compute_loss_from_embeddings(embeddings, None))
    assert float(masked_info_nce(embeddings, DIRECTIONS[terms], 20.0, 10.0)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("directions", [("query_to_doc",), ("query_to_doc", "doc_to_doc")])
def test_the_positive_of_another_row_that_says_the_same_is_no_negative(directions):
    (query,) = drawn(1, 1, 1)
    both = torch.cat([query, query])
    assert float(masked_info_nce([both, both], directions, 20.0, 1.0)) == pytest.approx(0.0, abs=1e-6)


def test_a_negative_nearer_than_the_positive_by_more_than_the_margin_pulls_at_nothing():
    query = torch.tensor([[1.0, 0.0]])
    positive, negative = torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.01]], requires_grad=True)
    masked_info_nce([query, positive, negative], FIVE, 20.0, 0.1).backward()
    assert torch.count_nonzero(negative.grad) == 0


@pytest.mark.parametrize(
    ("objective", "named"),
    [
        (Objective(mini_batch=8), "--margin none"),
        (Objective(mini_batch=0, margin=None), "--mini-batch 0"),
        (Objective(dims=(32, 64)), "--dims 32 64"),
        (Objective(dims=(0,)), "--dims 0"),
    ],
)
def test_an_objective_that_cannot_be_is_refused(objective, named):
    with pytest.raises(ValueError, match=named):
        check(objective, 32)
    check(Objective(dims=(32, 8)), 32)


def test_a_decoder_puts_its_end_token_behind_every_text_also_a_cut_one(decoder):
    model = start(str(decoder), "last", max_length=4)
    tokens = model.tokenizer(["a b", "a b c a b c a b c"], truncation=True, max_length=4, padding=True)
    assert [ids[-1] for ids in tokens["input_ids"]] == [1, 1]
    assert len(tokens["input_ids"][1]) == 4
    assert tokens["attention_mask"][0] == [0, 1, 1, 1]


def test_a_decoder_has_the_same_vector_beside_a_longer_text(decoder):
    model = start(str(decoder), "last")
    alone, beside = model.encode(["the red one"])[0], model.encode(["the red one", "which is the one " * 9])[0]
    assert np.allclose(alone, beside, atol=1e-5)
    assert np.linalg.norm(alone) == pytest.approx(1, abs=1e-5)


def test_a_saved_decoder_pools_as_the_trained_one(decoder, tmp_path):
    model = start(str(decoder), "last")
    model.save_pretrained(str(tmp_path / "saved"))
    loaded = start(str(tmp_path / "saved"))
    assert np.allclose(model.encode(["a b", "the red one"]), loaded.encode(["a b", "the red one"]), atol=1e-5)


def test_an_end_token_that_a_tokenizer_puts_itself_is_not_doubled(decoder):
    tokenizer = start(str(decoder), "last").tokenizer
    ends_in_eos(tokenizer)
    assert tokenizer("a b")["input_ids"].count(1) == 1


def test_a_token_that_a_decoder_begins_with_stays(decoder, tmp_path):
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(decoder, bos_token="<unk>")
    ends_in_eos(tokenizer)
    assert tokenizer("a b")["input_ids"][0] != 0, "one that it has and does not use is not begun with"
    tokenizer = AutoTokenizer.from_pretrained(decoder, bos_token="<unk>")
    template = TemplateProcessing(single="<unk> $A", special_tokens=[("<unk>", 0)])
    tokenizer.backend_tokenizer.post_processor = template
    ends_in_eos(tokenizer)
    ids = tokenizer("a b c", truncation=True, max_length=4)["input_ids"]
    assert (ids[0], ids[-1], len(ids)) == (0, 1, 4)


def test_a_decoder_learns_with_five_terms_and_matryoshka(decoder, tmp_path):
    rows = read_rows(write_config(tmp_path / "triplet-2", rows_of(32)).parent)
    model = start(str(decoder), "last")
    objective = Objective(dims=(32, 16, 8))
    losses = train(model, rows, Options(batch=8, steps=24, rate=1e-3, objective=objective, batches="planned"))
    assert len(losses) == 24
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    of = Collection({name: f"the {name} one" for name in COLOURS}, {"q": ASKED + "which is blue"}, {"q": {"blue": 1.0}})
    assert measure(model, of).ndcg > 0.6


@pytest.mark.parametrize("objective", [Objective(), Objective(margin=None, mini_batch=4)], ids=["masked", "cached"])
def test_each_loss_trains(decoder, tmp_path, objective):
    rows = read_rows(write_config(tmp_path / "pair", rows_of(16, negatives=0)).parent)
    losses = train(start(str(decoder), "last"), rows, Options(batch=8, steps=3, objective=objective))
    assert len(losses) == 3
    assert all(math.isfinite(one) for one in losses)


def test_planned_batches_are_the_rows_in_the_order_of_the_files():
    sampler = in_order(list(range(10)), batch_size=4, drop_last=True)
    assert list(sampler) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_trainer_with_planned_batches_sees_them_as_they_lie(decoder, monkeypatch):
    from datasets import Dataset

    model, seen = start(str(decoder), "last"), []
    forward = model.preprocess
    monkeypatch.setattr(
        model, "preprocess", lambda texts, *more, **named: seen.append(texts) or forward(texts, *more, **named)
    )
    columns = {"anchor": [f"a {name}" for name in COLOURS], "positive": [f"b {name}" for name in COLOURS]}
    train(model, Dataset.from_dict(columns), Options(batch=4, batches="planned"))
    anchors = [text for texts in seen for text in texts if str(text).startswith("a ")]
    # The last, since the trainer looks at some rows before it begins.
    assert anchors[-8:] == columns["anchor"]


def test_rows_of_all_shards_are_read_in_order_and_most_negatives_are_the_default(tmp_path):
    write_config(tmp_path / "pair", rows_of(8, negatives=0))
    write_config(tmp_path / "triplet-2", rows_of(8))
    write_config(tmp_path / "triplet-10", rows_of(8, negatives=10), shards=2)
    rows = read_rows(tmp_path)
    assert rows.column_names == ["anchor", "positive", *(f"negative_{number + 1}" for number in range(10))]
    assert rows["anchor"][:] == rows_of(8)["anchor"]


def test_a_release_without_such_a_config_names_those_it_has(tmp_path):
    write_config(tmp_path / "pair", rows_of(8, negatives=0))
    with pytest.raises(ValueError, match="pair"):
        read_rows(tmp_path, "triplet-7")


@pytest.mark.parametrize(
    "columns",
    [
        {"instruction": ["i"], "anchor": ["a"], "positive": ["b"]},
        {"anchor": ["a"], "positive": ["b"], "batch": [1]},
        {"positive": ["b"], "anchor": ["a"]},
    ],
)
def test_columns_that_a_trainer_would_take_for_documents_are_refused(tmp_path, columns):
    write_config(tmp_path / "pair", columns)
    with pytest.raises(ValueError, match="anchor, positive"):
        read_rows(tmp_path)


def test_what_was_found_is_graded_as_defined():
    got = graded([["x", "a", "y", "b"], ["a"]], [{"a": 2.0, "b": 1.0}, {"z": 1.0}])
    found = (2 / math.log2(3) + 1 / math.log2(5)) / (2 + 1 / math.log2(3))
    assert got.ndcg == pytest.approx(found / 2)
    assert got.recall == pytest.approx(0.5)


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(1, 12), most=st.integers(1, 14), seed=st.integers(0, 100))
def test_what_is_best_does_not_depend_on_how_the_corpus_comes(cut, most, seed):
    chance = np.random.default_rng(seed)
    asked, vectors = chance.normal(size=(3, 4)).astype(np.float32), chance.normal(size=(12, 4)).astype(np.float32)
    chunks = (vectors[at : at + cut] for at in range(0, len(vectors), cut))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "BEST", most)
        found = best(asked, chunks).tolist()
    assert found == np.argsort(-(asked @ vectors.T), axis=1)[:, :most].tolist()


def test_of_equal_vectors_the_first_are_best():
    asked, vectors = np.ones((2, 1)), np.ones((4, 1))
    assert best(asked, iter([vectors[:2], vectors[2:]])).tolist() == [[0, 1, 2, 3]] * 2


def beir(folder: Path) -> Path:
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": name, "title": "", "text": f"the {name} one"} for name in COLOURS]
    queries = [{"_id": "q1", "text": "which is red"}, {"_id": "q2", "text": "which is none"}]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tred\t1\nq2\tred\t0\n")
    return folder


def test_a_query_that_nothing_answers_is_not_measured(tmp_path):
    read = read_beir(beir(tmp_path / "beir"))
    assert read.queries == {"q1": "which is red"}
    assert read.grades == {"q1": {"red": 1.0}}


@pytest.mark.parametrize(
    ("prompt", "asked"), [(None, f"{ASKED}which is red"), ("", "which is red"), ("Q: ", "Q: which is red")]
)
def test_a_query_is_asked_with_its_own_instruction_unless_another_prompt_is_given(tmp_path, prompt, asked):
    folder = beir(tmp_path / "beir")
    (folder / "queries.jsonl").write_text(
        json.dumps({"_id": "q1", "text": "which is red", "metadata": {"instruction": "find it", "language": "en"}})
    )
    assert read_beir(folder, prompt=prompt).queries == {"q1": asked}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("qrels/test.tsv", "q1 red 1"),
        ("qrels/test.tsv", "q1\tred\tvery"),
        ("corpus.jsonl", '{"_id": "new"}'),
        ("corpus.jsonl", '{"_id": 7, "text": "new"}'),
        ("queries.jsonl", "{"),
        ("queries.jsonl", "[]"),
    ],
)
def test_a_line_of_a_collection_that_is_none_is_named_with_its_file(tmp_path, file, line):
    path = beir(tmp_path / "beir") / file
    number = len(path.read_text().splitlines()) + 1
    with path.open("a") as opened:
        opened.write(f"{line}\n")
    with pytest.raises(ValueError, match=rf"{path.name}:{number}: "):
        read_beir(tmp_path / "beir")


def test_blank_lines_of_a_collection_are_none(tmp_path):
    with (beir(tmp_path / "beir") / "queries.jsonl").open("a") as opened:
        opened.write("\n")
    assert len(read_beir(tmp_path / "beir").queries) == 1


def test_a_collection_that_lacks_a_split_says_which_file(tmp_path):
    with pytest.raises(ValueError, match=r"qrels.dev\.tsv"):
        read_beir(beir(tmp_path / "beir"), "dev")


def test_the_command_trains_measures_before_and_after_and_saves(decoder, tmp_path, capsys):
    write_config(tmp_path / "release" / "triplet-2", rows_of(16))
    arguments = ["--release", str(tmp_path / "release"), "--model", str(decoder), "--pooling", "last", "--batch", "8"]
    evaluation = ["--evaluate", str(beir(tmp_path / "beir")), "--prompt", r"Instruct: find it\nQuery:"]
    main([*arguments, *evaluation, "--steps", "2", "--out", str(tmp_path / "out")])
    told = capsys.readouterr().out
    assert told.index("before: nDCG@10") < told.index("loss") < told.index("after: nDCG@10")
    assert len(start(str(tmp_path / "out")).encode(["a"])[0]) == 32


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--model", "DECODER", "--batch", "64"], "--batch 64"),
        (["--model", "DECODER", "--batch", "8", "--dims", "64"], "--dims 64"),
        (["--model", "DECODER", "--batch", "8", "--config", "pair"], "triplet-2"),
        (["--batch", "8"], "--model"),
        (["--batch", "8", "--model", "DECODER", "--miniature"], "--model"),
        (["--batch", "8", "--miniature"], "pip install bundled"),
        (["--model", "DECODER", "--batch", "8", "--mini-batch", "4"], "--margin none"),
        (["--model", "DECODER", "--batch", "8", "--evaluate", "nowhere"], "corpus.jsonl"),
    ],
)
def test_the_command_says_what_it_cannot_do_before_it_measures(decoder, tmp_path, more, named, monkeypatch):
    def no_wheel():
        raise EngineError("pip install bundled")

    monkeypatch.setattr(bundled, "prepare", no_wheel)
    monkeypatch.setattr(training, "measure", None)
    write_config(tmp_path / "triplet-2", rows_of(16))
    beir(tmp_path / "beir")
    if "--evaluate" not in more:
        more = [*more, "--evaluate", str(tmp_path / "beir")]
    given = [str(decoder) if one == "DECODER" else one for one in more]
    with pytest.raises(SystemExit) as ended:
        main(["--release", str(tmp_path), "--pooling", "last", *given])
    assert named in str(ended.value)


def test_a_miniature_has_defaults_of_its_own_and_what_is_asked_for_stays(monkeypatch):
    monkeypatch.setattr(bundled, "prepare", lambda: Path("small"))

    def filled(*arguments):
        given = training._parser().parse_args(["--release", "x", *arguments])
        training._fill_in(given)
        return given.model, given.batch, given.rate, given.steps, given.pooling, given.max_length

    assert filled("--model", "m") == ("m", 32, 2e-5, None, "own", None)
    assert filled("--miniature") == ("small", 4, 5e-5, 40, "last", 48)
    asked = ("--batch", "32", "--rate", "2e-5", "--steps", "9", "--pooling", "mean", "--max-length", "7")
    assert filled("--miniature", *asked) == ("small", 32, 2e-5, 9, "mean", 7)


def test_a_margin_that_is_no_number_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["--release", "x", "--model", "m", "--margin", "wide"])
    assert "--margin" in capsys.readouterr().err
