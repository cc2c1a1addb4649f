"""Which folders are domains and which are classes, whatever lies around them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from dacsm.config.naming import class_name, distinct_names
from dacsm.config.validation import Name
from dacsm.data.raw.layout import groups_in, one_domain

PARTS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=5)
PATHS = st.sets(PARTS.map(lambda parts: "/".join([*parts[:-1], f"{parts[-1]}.png"])), max_size=30)


def shown(paths: str) -> dict[str, dict[str, int] | int]:
    groups, _ = groups_in(paths.split())
    return {group.title: group.counts or len(group.loose) for group in groups}


@pytest.mark.parametrize(
    ("paths", "domains"),
    [
        ("p/dog/1.png p/cat/1.png s/dog/1.png s/cat/1.png", {"p": {"dog": 1, "cat": 1}, "s": {"dog": 1, "cat": 1}}),
        ("all/x/p/dog/1.png all/x/p/cat/1.png all/x/s/dog/1.png", {"p": {"dog": 1, "cat": 1}, "s": {"dog": 1}}),
        ("a/images/mug/1.png a/images/pen/1.png d/images/mug/1.png", {"a": {"mug": 1, "pen": 1}, "d": {"mug": 1}}),
        ("a/images/mug/1.png a/images/pen/1.png d/images/mug/1.png d/images/pen/2.png",
         {"a": {"mug": 1, "pen": 1}, "d": {"mug": 1, "pen": 1}}),
        ("p/dog/1.png p/cat/1.png t/1.png t/2.png", {"p": {"dog": 1, "cat": 1}, "t": 2}),
        ("p/dog/1.png p/cat/1.png t/images/1.png t/images/2.png", {"p": {"dog": 1, "cat": 1}, "t": 2}),
        ("p/dog/1.png p/dog/more/1.png p/cat/1.png s/dog/1.png", {"p": {"dog": 2, "cat": 1}, "s": {"dog": 1}}),
        ("dog/1.png cat/1.png", {"dog": 1, "cat": 1}),
    ],
)  # fmt: skip
def test_domains_and_classes(paths: str, domains: dict[str, dict[str, int] | int]) -> None:
    assert shown(paths) == domains


@given(PATHS)
def test_no_image_is_lost_or_taken_twice(paths: set[str]) -> None:
    groups, outside = groups_in(paths)
    inside = [path for group in groups for path, _ in (*group.images, *(group.loose if group.labelled else ()))]
    assert sorted([*inside, *outside]) == sorted(paths)
    assert sorted(path for path, _ in one_domain(paths, "all", ["a"]).unlabelled().images) == sorted(paths)


@given(st.lists(st.text(max_size=50), max_size=8))
def test_any_folders_have_valid_names_of_their_own(texts: list[str]) -> None:
    names = distinct_names(texts, "domain")
    assert len(set(names)) == len(texts)
    for name in names:
        TypeAdapter(Name).validate_python(name)
    assert all(class_name(text) for text in texts)
