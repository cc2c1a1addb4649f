"""Every command of the README and the tutorial is run as it stands, or listed here with what stands against it."""

import csv
import re
import shlex
from pathlib import Path

import pytest
import yaml
from test_published_datasets import copied
from tiny_project import ProjectFolder

from dacsm.cli.main import command_line

CHECKOUT = Path(__file__).parents[1]
TUTORIAL = "docs/tutorial.md"
PAGES = ("README.md", TUTORIAL)
# What is not run, and why. A line that no page has any more is an error.
NOT_RUN = {
    "make demo": "twelve minutes; tests/test_ledger.py makes the same of few images",
    "make test": "the tests themselves",
    "make env": "sets up the environment that the tests run in",
    ". .venv/bin/activate": "the tests run in that environment",
    "dacsm cell office_home dacsm art-clipart": "needs the archive of Office-Home; tests/test_cell.py has such a table",
    "dacsm reproduce digits dacsm mean_per_class --seed 0": "trains anew; tests/test_reproduce.py does so",
    "dvc repro": "tests/test_ledger.py runs it on the same project",
    "dacsm plan visda": "measures a large network; tests/test_plan.py",
    "snakemake --cores 8 results/visda/report.html": "days on a GPU; tests/test_published_datasets.py has a look-alike",
    "dacsm init my_images": "tests/test_readme.py runs it where nobody answers; tests/test_init.py answers",
    "snakemake --cores 2 results/my_images/report.html": "tests/test_readme.py runs it with one seed",
    'uv pip install --editable ".[slurm]"': "installs packages; make test-cluster",
    "snakemake --workflow-profile profiles/slurm results/domainnet_table.csv": "needs a Slurm; make test-cluster",
}
OTHERWISE = {"README.md": "tests/test_readme.py"}  # where the programs of a page are run


def blocks(page: str) -> list[tuple[str, str]]:
    """The language and text of each fenced block that can be run."""
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    return re.findall(r"^ *```(sh|bash|console|python)\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[str]:
    """The commands of a page in their order, without remarks."""
    lines = [line for language, text in blocks(page) if language != "python" for line in text.splitlines()]
    return [command for line in lines if (command := re.sub(r"(^|\s+)#.*", "", line).strip())]


def to_run(page: str) -> list[str]:
    return [command for command in commands(page) if command not in NOT_RUN]


def test_no_reason_outlives_its_command() -> None:
    assert NOT_RUN.keys() <= {command for page in PAGES for command in commands(page)}


@pytest.mark.parametrize("page", PAGES)
def test_every_program_is_run_somewhere(page: str) -> None:
    programs = [text for language, text in blocks(page) if language == "python"]
    assert len(programs) == 1, "run the others too"
    assert page == TUTORIAL or '"python"' in (CHECKOUT / OTHERWISE[page]).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_commands_of_the_readme(built: ProjectFolder, tmp_path: Path) -> None:
    """On the tiny project, in which `digits` is called `tiny`; its two commits are the project and its results."""
    project = built.copy(tmp_path)
    printed = {}
    for command in to_run("README.md"):
        printed[command] = project.run(*shlex.split(re.sub(r"\bdigits\b", "tiny", command)))
    assert "make it again" in printed["dacsm cell digits dacsm 7"]
    assert "Nothing to be done" in printed["snakemake --cores 2"]
    assert "nothing found" in printed["dacsm audit"]


KNOWN = command_line()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
LACKING = {words[1] for words in map(shlex.split, to_run(TUTORIAL)) if words[0] == "dacsm"} - set(KNOWN or ())


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(bool(LACKING), reason=f"dacsm has no {', '.join(sorted(LACKING))} yet")
def test_the_tutorial(tmp_path: Path) -> None:
    """With fewer pictures, one seed, two methods and one epoch; all else as it stands, in its order."""
    project = copied(tmp_path / "project")
    (program,) = (text for language, text in blocks(TUTORIAL) if language == "python")
    sizes = 'PER_CLASS = {"fine": 200, "coarse": 100}'
    assert sizes in program
    (project.folder / "make_pictures.py").write_text(program.replace(sizes, 'PER_CLASS = {"fine": 20, "coarse": 10}'))
    project.git("init", "--quiet")
    project.commit("the project")
    printed = {}
    for command in to_run(TUTORIAL):
        printed[command] = project.run("bash", "-c", command) if "|" in command else project.run(*shlex.split(command))
        if command.startswith("dacsm init"):
            shorten(project)
    assert len(list((project.folder / "new_pictures").iterdir())) == 20
    with (project.folder / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 20
    assert "| source_only |" in printed["cat results/my_pictures_table.md"]
    report = (project.folder / "results/my_pictures/report.html").read_text(encoding="utf-8")
    assert "digit_7" in report
    dry = next(printed[command] for command in printed if "--dry-run" in command)
    assert "Nothing to be done" in dry


def shorten(project: ProjectFolder) -> None:
    """One seed, two methods and one epoch of what `dacsm init` wrote."""
    file = project.folder / "params.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert content["experiments"]["my_pictures"]["seeds"] == [0, 1, 2]
    content["experiments"]["my_pictures"] |= {"seeds": [0], "methods": ["source_only", "dacsm"]}
    content["pretrain"]["my_pictures"]["epochs"] = content["adapt"]["recipes"]["my_pictures"]["epochs"] = 1
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
