"""What a release and a contributor rest on: one version, a citation that tools can read, the same checks everywhere."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

import dacsm

CHECKOUT = Path(__file__).parents[1]
NEEDED = {"cff-version", "message", "title", "authors"}  # by the schema of CFF 1.2.0
NEEDED_OF_REFERENCE = {"type", "title", "authors"}
PERSON, ENTITY = {"family-names", "given-names", "orcid", "affiliation", "email"}, {"name", "website", "email"}


def citation() -> dict[str, Any]:
    return yaml.safe_load((CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == dacsm.__version__ == str(citation()["version"])
    assert project["license"] == citation()["license"]


def test_the_citation_has_what_its_schema_asks_for() -> None:
    whole = citation()
    assert whole.keys() >= NEEDED
    assert whole["cff-version"] == "1.2.0"
    for reference in (whole["preferred-citation"], *whole["references"]):
        assert reference.keys() >= NEEDED_OF_REFERENCE
        assert all(set(author) <= PERSON or ENTITY >= set(author) >= {"name"} for author in reference["authors"])
    assert all(set(author) <= PERSON or ENTITY >= set(author) >= {"name"} for author in whole["authors"])


def test_the_changelog_begins_with_what_is_not_released() -> None:
    headings = re.findall(r"^## (.+)$", (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0].startswith(dacsm.__version__)


def test_a_commit_is_checked_by_what_make_lint_runs() -> None:
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^lint: env\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)[1]
    (local,) = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert local["repo"] == "local"  # nothing is fetched

    def checks(lines: list[str]) -> set[str]:
        """The programs, and what they are asked to do where they can do several things."""
        words = [line.removeprefix(".venv/bin/").split() for line in lines]
        return {" ".join(word for word in line[:2] if word in ("check", "format", "--lint", line[0])) for line in words}

    assert checks([hook["entry"] for hook in local["hooks"]]) == checks(re.findall(r"\t@(.+)", recipe))


def test_the_image_is_given_what_it_copies() -> None:
    copied = re.findall(r"^COPY (\S+)", (CHECKOUT / "Containerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    ignored = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied
    assert {f"!{name}" for name in copied} == {line for line in ignored if line.startswith("!")}
    assert all((CHECKOUT / name).is_file() for name in copied)
