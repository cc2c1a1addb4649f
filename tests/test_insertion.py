"""Entries that are put into a file of settings as lines leave all else of it as it was."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dacsm.config.insertion import Entry, insert, with_entries, with_entry
from dacsm.runtime.errors import InputError

TEXT = """\
# first
a:            # about a
  one: {x: 1}   # in a
  # below

b:
    c:
        two: [1,
          2]
    d: 3
"""
SCALARS = st.one_of(st.integers(), st.booleans(), st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])))


@given(
    st.lists(st.sampled_from([("a",), ("b",), ("b", "c"), ("new",), ("new", "er"), ("b", "other")]), max_size=5),
    st.dictionaries(st.text("abc", min_size=1), st.one_of(SCALARS, st.lists(SCALARS, max_size=40)), min_size=1),
    st.sampled_from(["\n", "\r\n"]),
)
def test_nothing_else_changes(places: list[tuple[str, ...]], value: dict[str, object], end: str) -> None:
    entries = [Entry(place, f"no{number}", value, "why") for number, place in enumerate(places)]
    text = TEXT.replace("\n", end)
    after = text
    for entry in entries:
        after = with_entry(after, entry)
    assert yaml.safe_load(after) == with_entries(yaml.safe_load(text), entries)
    lines = iter(after.split(end))
    assert all(line in lines for line in text.split(end))
    assert end == "\n" or after.count("\n") == after.count(end)


@pytest.mark.parametrize(
    "text", ["a:\nb: 1\n", "a: {}   # none yet\nb: 1\n", "b: 1", "b: 1\na:\n", "b: 1\na: {}", "\ufeffb: 1\n"]
)
def test_a_key_may_be_empty_or_absent(text: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o640)
    insert(file, [Entry(("a",), "mine", {"x": [1, 2]}, "")])
    assert yaml.safe_load(file.read_text(encoding="utf-8-sig")) == {"a": {"mine": {"x": [1, 2]}}, "b": 1}
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: {one: 1}\n", "write each of a over several lines"),
        ("x: &same\n  one: 1\na: *same\n", "write each of a over several lines"),
        ("a: 5\n", "a should be a mapping"),
        ("a:\n  mine: 1\n", "a has 'mine' already"),
        ("- a\n", "should be a mapping"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_file_that_takes_no_lines_is_left_alone(text: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=re.escape(sentence)):
        insert(file, [Entry(("a",), "mine", {"x": 1}, "")])
    assert file.read_text() == text
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_to_the_settings_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("a:\n  b: 1\n")
    (tmp_path / "params.yaml").symlink_to("real.yaml")
    insert(tmp_path / "params.yaml", [Entry(("a",), "mine", {"x": 1}, "new")])
    assert (tmp_path / "params.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_text() == "a:\n  b: 1\n  # new\n  mine: {x: 1}\n"
