"""What the README says of your own images runs as it stands."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_published_datasets import copied
from tiny_project import ProjectFolder

from dacsm.config.params import Params, load_params, parse_params

CHECKOUT = Path(__file__).parents[1]


def example() -> tuple[str, dict[str, Any]]:
    """The program that makes the folder, and the lines of params.yaml."""
    section = (CHECKOUT / "README.md").read_text(encoding="utf-8").split("## Your own images")[1].split("\n## ")[0]
    blocks = dict(re.findall(r"```(python|yaml)\n(.*?)```", section, flags=re.DOTALL))
    return blocks["python"], yaml.safe_load(blocks["yaml"])


def merged(params: dict[str, Any], lines: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: merged(params[key], value) if isinstance(params.get(key), dict) else value for key, value in lines.items()
    }
    return params | both


def test_the_example_is_about_ten_lines_and_has_the_settings_of_digits() -> None:
    _, lines = example()
    assert str(lines).count("'mine'") == 5  # a line each
    content = merged(yaml.safe_load((CHECKOUT / "params.yaml").read_text(encoding="utf-8")), lines | {"folders": {}})
    params: Params = parse_params(content)
    assert params.pretrain["mine"] == load_params(CHECKOUT / "params.yaml").pretrain["digits"]
    assert params.adapt.recipes["mine"] == params.adapt.recipes["digits"]
    assert params.shard["mine"] == params.shard["digits"]


@pytest.mark.slow
@pytest.mark.long
def test_the_example_makes_its_table(tmp_path: Path) -> None:
    program, lines = example()
    project: ProjectFolder = copied(tmp_path / "project")
    project.run("python", "-c", program)
    lines["pretrain"]["mine"]["epochs"] = lines["adapt"]["recipes"]["mine"]["epochs"] = 1
    lines["adapt"]["recipes"]["mine"]["max_pairs"] = 100
    content = merged(yaml.safe_load((project.folder / "params.yaml").read_text(encoding="utf-8")), lines)
    (project.folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    printed = project.snakemake("results/mine_table.csv")
    assert "mine.yaml describes my_images: 10 classes, 5000 images in large, 1797 images in small." in printed
    with (project.folder / "results/mine_table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} >= {"source_only", "dacsm"}
    assert "digit_7" in rows[0]
    (project.folder / "my_images/small/digit_7/7.png").unlink()
    last = project.snakemake("-n", ok=False).rstrip().splitlines()[-1]
    assert "small has other images than when workflow/datasets/mine.yaml was written" in last
