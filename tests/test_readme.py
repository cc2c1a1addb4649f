"""What the README and docs/datasets.md say of your own images runs as it stands."""

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


def section(page: str) -> str:
    return (CHECKOUT / page).read_text(encoding="utf-8").split("## Your own images")[1].split("\n## ")[0]


def block(page: str, language: str) -> str:
    """The first block of code in a language, in what a page says of your own images."""
    return re.findall(rf"```{language}\n(.*?)```", section(page), flags=re.DOTALL)[0]


def merged(params: dict[str, Any], lines: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: merged(params[key], value) if isinstance(params.get(key), dict) else value for key, value in lines.items()
    }
    return params | both


def test_the_lines_by_hand_are_about_ten_and_have_the_settings_of_digits() -> None:
    lines = yaml.safe_load(block("docs/datasets.md", "yaml"))
    assert str(lines).count("'mine'") == 5  # a line each
    content = merged(yaml.safe_load((CHECKOUT / "params.yaml").read_text(encoding="utf-8")), lines | {"folders": {}})
    params: Params = parse_params(content)
    assert params.pretrain["mine"] == load_params(CHECKOUT / "params.yaml").pretrain["digits"]
    assert params.adapt.recipes["mine"] == params.adapt.recipes["digits"]
    assert params.shard["mine"] == params.shard["digits"]


@pytest.mark.slow
@pytest.mark.long
def test_the_example_makes_its_table(tmp_path: Path) -> None:
    project: ProjectFolder = copied(tmp_path / "project")
    project.run("python", "-c", block("README.md", "python"))
    commands = [line.partition("#")[0].split() for line in block("README.md", "sh").splitlines()]
    assert [words[0] for words in commands] == ["dacsm", "snakemake"]
    printed = project.run("python", "-m", *commands[0])  # nobody answers
    content = yaml.safe_load((project.folder / "params.yaml").read_text(encoding="utf-8"))
    assert content["experiments"]["my_images"]["tasks"] == ["large-small"]
    assert content["pretrain"]["my_images"] == {"preset": "small_images_pretrain"}
    content["experiments"]["my_images"] |= {"methods": ["source_only", "dacsm"], "seeds": [0]}
    content["pretrain"]["my_images"]["epochs"] = content["adapt"]["recipes"]["my_images"]["epochs"] = 1
    content["adapt"]["recipes"]["my_images"]["max_pairs"] = 100
    (project.folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    project.run(*commands[1])
    assert (project.folder / commands[1][-1]).is_file()
    assert "my_images.yaml describes my_images: 10 classes, 5000 images in large, 1797 images in small." in printed
    with (project.folder / "results/my_images_table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} >= {"source_only", "dacsm"}
    assert "digit_7" in rows[0]
    (project.folder / "my_images/small/digit_7/7.png").unlink()
    last = project.snakemake("-n", ok=False).rstrip().splitlines()[-1]
    assert "small has other images than when workflow/datasets/my_images.yaml was written" in last
