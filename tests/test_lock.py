"""Files that are made from others are in step with them."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from dacsm.cli.main import main
from dacsm.config.params import load_params
from dacsm.config.presets import Presets

PROJECT = Path(__file__).parents[1]
LOCK = (PROJECT / "requirements.lock").read_text(encoding="utf-8")


def test_conda_environment_is_made_from_the_lock() -> None:
    spec = importlib.util.spec_from_file_location("make_conda_env", PROJECT / "workflow/envs/make_conda_env.py")
    make_conda_env = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_conda_env)
    found = (PROJECT / "workflow/envs/dacsm.yaml").read_text(encoding="utf-8")
    assert found == make_conda_env.environment(LOCK), "run `python workflow/envs/make_conda_env.py`"


def test_conda_environment_pins_what_the_lock_pins() -> None:
    *_, pip = yaml.safe_load((PROJECT / "workflow/envs/dacsm.yaml").read_text(encoding="utf-8"))["dependencies"]
    pinned = [entry.split(" ;")[0] for entry in pip["pip"]]
    assert pinned == re.findall(r"^([\w.\-\[\]]+==\S+)", LOCK, flags=re.MULTILINE)
    assert not any("://" in entry or "sha256" in entry for entry in pip["pip"])


def test_the_lock_has_every_dependency() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    locked = set(re.findall(r"^([\w.\-]+)(?:\[\S+\])?==", LOCK, flags=re.MULTILINE))
    assert {re.match(r"[\w.\-]+", entry).group() for entry in wanted} <= locked


def test_schema_is_in_step_with_params(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    found = (PROJECT / "workflow/schemas/params.schema.json").read_text(encoding="utf-8")
    assert found == capsys.readouterr().out, "run `make schema`"


def test_schema_knows_every_key_of_params() -> None:
    definitions = schema()["$defs"]
    settings = load_params(PROJECT / "params.yaml").model_dump()
    assert list(definitions["Params"]["properties"]) == [*settings, "preset"]
    for name, definition in definitions.items():
        if not name.startswith("Whole"):
            for key in definition["properties"].values():
                assert "$ref" in key or "title" in key


def test_schema_takes_presets_anywhere_and_asks_for_what_they_leave_out() -> None:
    content = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    content["pretrain"] = Presets("params.yaml").resolve(content["pretrain"])

    def complaints() -> list[str]:
        return [error.message for error in Draft7Validator(schema()).iter_errors(content)]

    assert complaints() == []
    digits = content["pretrain"]["digits"]
    del digits["optimiser"]["clip_norm"]
    assert complaints() == ["'clip_norm' is a required property"]
    digits["optimiser"]["preset"] = "some"
    assert complaints() == []
    del digits["optimiser"]["preset"]
    content["pretrain"]["preset"] = "some"  # further out
    assert complaints() == []
    del content["pretrain"]["preset"]
    digits["preset"] = "some"
    digits["optimiser"]["rate"] = 1
    assert complaints() == ["Additional properties are not allowed ('rate' was unexpected)"]
    del digits["optimiser"]["rate"]
    content["experiments"]["digits"]["tasks"] = "all"
    assert complaints() == []
    content["experiments"]["digits"]["tasks"] = "some"
    assert len(complaints()) == 1


def schema() -> dict[str, Any]:
    return json.loads((PROJECT / "workflow/schemas/params.schema.json").read_text(encoding="utf-8"))
