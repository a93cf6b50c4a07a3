import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline.digest import LENGTH, digest, digest_path, draw

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


class Model(BaseModel):
    words: tuple[int, ...]
    folder: Path


@settings(max_examples=40)
@given(st.dictionaries(st.text(), PLAIN))
def test_the_order_of_keys_does_not_count(value: dict[str, object]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


@given(st.lists(st.integers(), min_size=2, unique=True))
def test_the_order_of_items_counts(value: list[int]) -> None:
    assert digest(value) != digest(value[::-1])


@settings(max_examples=40)
@given(PLAIN)
def test_a_digest_is_short_hex_and_the_same_every_time(value: object) -> None:
    assert len(digest(value)) == LENGTH
    assert int(digest(value), 16) >= 0
    assert digest(value) == digest(value)


def test_a_digest_is_the_same_in_every_year() -> None:
    # Written down once: where it changes, every id and fingerprint that was ever made does.
    assert digest("retrieval", {"a": [1, 2.5, None, True], "é": "กข"}) == "e29cb08cfaa9abec1102"


@pytest.mark.parametrize(
    ("one", "other"), [((1, 2), ([1, 2],)), (("ab", ""), ("a", "b")), ((True,), (1,)), (("1",), (1,)), ((None,), ("",))]
)
def test_values_that_differ_have_digests_that_differ(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    assert digest(*one) != digest(*other)


def test_a_tuple_means_the_same_as_a_list_and_a_model_as_its_fields() -> None:
    assert digest((1, 2)) == digest([1, 2])
    assert digest(Model(words=(1, 2), folder=Path("a"))) == digest({"folder": "a", "words": [1, 2]})


@pytest.mark.parametrize(
    "value",
    [{1, 2}, float("nan"), float("inf"), b"bytes", bytearray(b"bytes"), {1: "key"}, {"deep": [{None: 1}]}, object()],
)
def test_what_json_cannot_say_exactly_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError), match="digest: "):
        digest(value)


@given(st.integers(1, 50), st.text())
def test_a_draw_is_one_of_the_choices(count: int, value: str) -> None:
    assert 0 <= draw(count, value) < count


def test_draws_reach_every_choice() -> None:
    assert {draw(5, "facet", number) for number in range(100)} == set(range(5))


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_a_folder_is_known_by_its_files_names_and_contents(tmp_path: Path) -> None:
    same = [digest_path(write(tmp_path / name, a="1", b="2")) for name in ("here", "there")]
    others = [
        digest_path(write(tmp_path / str(at), **files))
        for at, files in enumerate([{"a": "2", "b": "1"}, {"a": "1", "c": "2"}, {"a": "1"}])
    ]
    assert same[0] == same[1]
    assert len({same[0], *others}) == 4


def test_a_folder_is_not_known_by_its_times_or_its_hidden_files(tmp_path: Path) -> None:
    folder = write(tmp_path / ".cache" / "data", a="1")
    before = digest_path(folder)
    os.utime(folder / "a", (1, 1))
    write(folder / ".git", HEAD="x")
    write(folder, **{".DS_Store": "x"})
    assert digest_path(folder) == before
    write(folder / "deep", b="2")
    assert digest_path(folder) != before


def test_a_file_is_known_by_its_bytes_and_not_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, a="text", b="text", c="text ")
    assert digest_path(tmp_path / "a") == digest_path(tmp_path / "b") != digest_path(tmp_path / "c")
