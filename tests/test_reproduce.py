"""A cell made again from the archives on, and what is said where it differs from its record."""

import json
from pathlib import Path

import pytest
from tiny_project import ProjectFolder

pytestmark = pytest.mark.slow
COMMAND = ("dacsm", "reproduce", "tiny", "dacsm", "mean_per_class", "--seed", "1", "--cores", "2")


@pytest.fixture(scope="module")
def project(built: ProjectFolder, tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    return built.copy(tmp_path_factory.mktemp("reproduced"))


def test_a_cell_is_made_again_and_equal(project: ProjectFolder) -> None:
    """By processes of their own, of which each has another order of sets: the first ones were forks of one."""
    before = project.run("git", "status", "--porcelain")
    project.cold = True
    said = project.run(*COMMAND)
    project.cold = False
    assert ": equal\n" in said
    assert "files of 3 runs are equal, byte for byte" in said
    assert (project.folder / "runs/reproduced/tiny-dacsm/results/tiny/evaluated/dacsm").is_dir()
    assert project.run("git", "status", "--porcelain") == before


def test_what_differs_is_named_with_its_reason(project: ProjectFolder) -> None:
    """The record says that other code, on another processor, gave another model."""
    record = project.folder / "results/tiny/records/adapted/dacsm/synthetic-mnist/seed1.json"
    content = json.loads(record.read_text())
    model = next(name for name in content["outputs"] if Path(name).name == "model.safetensors")
    content["outputs"][model] = "0" * 64
    content["code"]["dacsm/stages/adapt.py"] = "0" * 64
    content["device"] = "cpu (Another Processor, 3 cores)"
    record.write_text(json.dumps(content))
    said = project.run(*COMMAND)
    place = "results/tiny/adapted/dacsm/synthetic-mnist/seed1"
    assert f"the first run that differs is {place}, in model.safetensors\n" in said
    assert "made with  device cpu (Another Processor, 3 cores), now cpu (" in said
    assert "made with  other code in dacsm/stages/adapt.py" in said
    assert "learning_rate" not in said


def test_a_seed_that_the_table_has_not(project: ProjectFolder) -> None:
    said = project.run("dacsm", "reproduce", "tiny", "dacsm", "mean_per_class", "--seed", "7", ok=False)
    assert said == "dacsm: experiments.tiny.seeds has no 7; it has 0, 1.\n"
