"""Several tables of one dataset, as a user makes them: with Snakemake, and recorded by DVC."""

from pathlib import Path

import pytest
import yaml
from test_ledger import assert_up_to_date, made
from tiny_project import ProjectFolder

NOTHING = "Nothing to be done"

pytestmark = pytest.mark.slow


def write_params(project: ProjectFolder, experiment: dict, *tables: str) -> None:
    """Params with the experiment `more` of the dataset tiny, and these tables besides tiny's own."""
    path = project.folder / "params.yaml"
    content = yaml.safe_load(path.read_text())
    content["experiments"]["more"] = {"dataset": "tiny", "tasks": ["synthetic-mnist"]} | experiment
    content["tables"] |= dict.fromkeys(tables, "tiny")
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def test_two_experiments_of_a_dataset_share_its_runs(built: ProjectFolder, tmp_path: Path) -> None:
    """The second table asks for what the first lacks; the first stays as it is, and both can be audited."""
    project = built.copy(tmp_path)
    write_params(project, {"methods": ["dacsm", "cdtrans"], "seeds": [1]})
    assert project.jobs("results/more/report.html") == {"adapt": 1, "evaluate": 1, "table": 1, "summarise": 1}
    plan = project.run("dacsm", "plan", "more")
    assert "adapt         1      1" in plan
    assert "table         1      0" in plan
    assert project.jobs() == {}
    project.snakemake("results/more/report.html")
    assert NOTHING in project.snakemake("-n", "results/more_table.csv", "results/more/report.html", "all")
    assert project.run("dacsm", "audit", "tiny", "more") == "dacsm audit: 18 results looked at, nothing found.\n"
    assert project.run("dacsm", "cell", "more", "cdtrans", "3").startswith("more, cdtrans, 3 of synthetic → mnist: ")
    assert (project.folder / "results/more_table.md").read_text().startswith("# Digits (more)\n")
    new = project.git("ls-files", "--others", "--exclude-standard", "results").split()
    assert {str(Path(path).relative_to("results")) for path in new if "plots" not in path} == {
        "tiny/records/adapted/cdtrans/synthetic-mnist/seed1.json",
        "tiny/records/evaluated/cdtrans/synthetic-mnist/seed1.json",
        "more/records/tabled.json",
        "more/records/summarised.json",
        "more/report.html",
        *(
            f"more_{name}"
            for name in (
                *("table.csv", "table.md", "table.tex", "differences.csv", "validators.csv", "costs.csv"),
                "metrics.json",
            )
        ),
    }
    assert project.git("diff", "--name-only", "results") == ""  # the first table, and all that it rests on


@pytest.mark.long
def test_a_further_table_is_recorded_with_its_dataset(built: ProjectFolder, tmp_path: Path) -> None:
    """Runs of a table that is not listed are recorded, and none made again; once listed, it has a stage of its own."""
    project = built.copy(tmp_path)
    lock = project.folder / "dvc.lock"
    write_params(project, {"methods": ["cdtrans", "dacsm"], "seeds": [1]})
    project.snakemake("results/more/report.html")
    project.commit("more, by Snakemake")
    assert made(project.run("dvc", "repro")) == {}
    assert "results/more" not in lock.read_text()
    adapted = yaml.safe_load(lock.read_text())["stages"]["adapt@tiny"]["outs"][0]
    assert adapted["nfiles"] == 3 * 4  # two seeds of dacsm, and the one of cdtrans
    assert_up_to_date(project)

    write_params(project, {"methods": ["cdtrans", "dacsm"], "seeds": [1]}, "more")
    assert made(project.run("dvc", "repro")) == {}
    assert "results/more_table.csv" in lock.read_text()
    assert_up_to_date(project)

    write_params(project, {"methods": ["cdtrans", "dacsm"], "seeds": [0, 1]}, "more")
    assert made(project.run("dvc", "repro")) == {"adapt": 1, "evaluate": 1, "table": 1, "summarise": 1}
    project.commit("more, by DVC")
    printed = project.run("python", "-m", "dacsm", "compare", "HEAD~1", "HEAD")
    assert "tiny  " not in printed
    assert "more  synthetic-mnist  cdtrans" in printed
    assert "made with  seeds  [1] → [0, 1]" in printed
