"""The house: its folders, the order in which they may import, and the pipeline that is declared once."""

import ast
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import dacsm
from dacsm.config.datasets import CATALOG
from dacsm.config.params import load_params
from dacsm.ledger.dvc_file import dvc_file
from dacsm.ledger.pipeline import STAGES

CHECKOUT = Path(__file__).parents[1]
PACKAGE = CHECKOUT / "dacsm"
# Data flows forward: a folder imports from those before it alone.
ORDER = ("runtime", "config", "data", "models", "training", "evaluation", "adaptation", "methods", "report", "stages",
         "ledger", "cli")  # fmt: skip
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if len(path.relative_to(PACKAGE).parts) > 1)


def imported(file: Path) -> set[str]:
    """The folders of the package that a file imports from, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} imports from a relative place"
            names.add(node.module)
    return {name.split(".")[1] for name in names if name.startswith("dacsm.")}


def test_the_top_has_a_dozen_names() -> None:
    names = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert names - {"__init__", "__main__", "__pycache__"} == set(ORDER)
    assert len(ORDER) <= 12


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_import_points_backwards(file: Path) -> None:
    place = ORDER.index(file.parts[0])
    later = {folder for folder in imported(file) if ORDER.index(folder) > place}
    assert not later, f"{file} imports from {', '.join(sorted(later))}, which comes after {file.parts[0]}"


def test_every_stage_has_its_function() -> None:
    modules = {path.stem for path in (PACKAGE / "stages").glob("*.py")} - {"__init__"}
    assert modules == set(STAGES)
    for name in STAGES:
        assert callable(getattr(import_module(f"dacsm.stages.{name}"), name))


def test_dvc_yaml_is_generated_from_the_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    written = (CHECKOUT / "dvc.yaml").read_text(encoding="utf-8")
    assert written == dvc_file(load_params(Path("params.yaml"))), "run `make generated`"


def test_every_key_that_dvc_tracks_is_written_in_its_file() -> None:
    """DVC reads the files as they are, without defaults, and refuses to run where a key is absent."""
    stages = yaml.safe_load((CHECKOUT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    params = yaml.safe_load((CHECKOUT / "params.yaml").read_text(encoding="utf-8"))
    facts_file = f"{CATALOG}/${{item}}.yaml"
    for experiment, dataset in params["tables"].items():
        facts = yaml.safe_load((CHECKOUT / CATALOG / f"{dataset}.yaml").read_text(encoding="utf-8"))
        files = {"params.yaml": params, facts_file: facts}
        for stage in stages.values():
            for entry in stage["do"]["params"]:
                file, keys = next(iter(entry.items())) if isinstance(entry, dict) else ("params.yaml", [entry])
                for key in keys:
                    found = files[file]
                    for name in key.replace("${item}", dataset).replace("${key}", experiment).split("."):
                        assert name in found, f"{file} has no {key}"
                        found = found[name]


def test_no_module_is_long() -> None:
    lines = {file: len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {str(file): count for file, count in lines.items() if count > 300} == {}


def test_the_version_is_that_of_the_package() -> None:
    assert dacsm.__version__ in (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
