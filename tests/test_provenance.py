"""What a stage depends on is what its rule and its stage of DVC say."""

import configparser
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from dacsm.config.datasets import CATALOG, DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.ledger import provenance
from dacsm.ledger.provenance import ASIDES, FACTS, SETTINGS, STAGES, code_of, require_records, settings_of
from dacsm.runtime.errors import InputError

PROJECT = Path(__file__).parents[1]
DVC = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))
DVC_STAGES = {name: stage["do"] for name, stage in DVC["stages"].items()}
FACTS_FILE = "workflow/datasets/${item}.yaml"


def test_every_stage_is_a_rule_and_those_of_the_table_are_stages() -> None:
    assert tuple(DVC_STAGES) == STAGES
    for stage in (*STAGES, *ASIDES):
        rule = (PROJECT / f"workflow/rules/{stage}.smk").read_text(encoding="utf-8")
        found = re.findall(r'\b(rule|code|settings)(?: |\(")(\w+)', rule)
        assert found == [("rule", stage), ("code", stage), ("settings", stage)]
        assert f"python -m dacsm {stage} " in rule


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_code_that_its_stage_runs(stage: str) -> None:
    wanted = code_of(stage)
    lines = "".join(f"        - {file}\n" for file in wanted)
    assert [dep for dep in DVC_STAGES[stage]["deps"] if dep.startswith("dacsm/")] == wanted, f"dvc.yaml wants\n{lines}"


@pytest.mark.parametrize("stage", STAGES)
def test_data_goes_forward_only(stage: str) -> None:
    later = {f"dacsm/{other}.py" for other in STAGES[STAGES.index(stage) + 1 :]}
    assert not later & set(code_of(stage))


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_on_the_way_to_the_table_depends_on_what_is_beside_it(stage: str) -> None:
    assert not {f"dacsm/{aside}.py" for aside in ASIDES} & set(code_of(stage))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_names_the_settings_that_its_rule_does(stage: str) -> None:
    recipes = ("pretrain", "adapt.recipes") if stage == "evaluate" else ("",)
    wanted = {
        key.format(dataset="${item}", experiment="${key}", method="METHOD", recipe=recipe)
        for key in SETTINGS[stage]
        for recipe in recipes
    }
    wanted |= {f"{FACTS_FILE}:{key.format(domain='DOMAIN')}" for key in FACTS[stage]}
    listed = set()
    for entry in DVC_STAGES[stage]["params"]:
        listed |= {f"{FACTS_FILE}:{key}" for key in entry[FACTS_FILE]} if isinstance(entry, dict) else {entry}

    def covers(key: str, place: str) -> bool:
        return place == key or place.startswith(f"{key}.")

    assert {place for place in wanted if not any(covers(key, place) for key in listed)} == set(), "not in dvc.yaml"
    # The experiments say which runs there are: Snakemake knows that from its targets.
    unread = {key for key in listed if not any(covers(key, place) for place in wanted)} - {"experiments", "tables"}
    assert unread == set(), "in dvc.yaml, but the rule does not read it"


def test_every_key_that_dvc_tracks_is_written_in_its_file() -> None:
    """DVC reads the files as they are, without defaults, and refuses to run where a key is absent."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    for experiment, dataset in params["tables"].items():
        files = {"params.yaml": params, FACTS_FILE: yaml.safe_load((PROJECT / f"{CATALOG / dataset}.yaml").read_text())}
        for stage in DVC_STAGES.values():
            for entry in stage["params"]:
                file, keys = next(iter(entry.items())) if isinstance(entry, dict) else ("params.yaml", [entry])
                for key in keys:
                    found = files[file]
                    for name in key.replace("${item}", dataset).replace("${key}", experiment).split("."):
                        assert name in found, f"{file} has no {key}"
                        found = found[name]


def test_code_is_found_wherever_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "__init__.py": "",
        "adapt.py": "from dacsm.methods.cdtrans.parts.noise import Noise\ndef run():\n    import dacsm.late\n",
        "late.py": "from . import sibling\nimport numpy, dacsm.config.params",
        "sibling.py": "import dacsm.stages.adapt  # a circle",
        "params.py": "import dacsm.unused",
        "unused.py": "",
        "models/__init__.py": "",
        "models/noise.py": "from dacsm import shared",
        "shared.py": "from importlib import import_module\nimport_module(f'dacsm.data.raw.{name}')",
        "sources/__init__.py": "",
        "sources/digits.py": "",
        "sources/photos.py": "",
    }
    for name, content in files.items():
        (tmp_path / "dacsm" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dacsm" / name).write_text(content)
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "dacsm")
    always = ["adapt.py", "late.py", "models/__init__.py", "models/noise.py", "shared.py", "sibling.py"]
    digits = [f"dacsm/{name}" for name in sorted([*always, "sources/digits.py"])]
    assert code_of("adapt", "digits") == digits
    assert code_of("adapt") == [*digits, "dacsm/sources/photos.py"]


def test_settings_are_resolved_and_those_of_the_run(tiny_params: Params, tiny_dataset: DatasetSpec) -> None:
    def settings(stage: str, **arguments: str) -> dict:
        return settings_of(stage, tiny_params, tiny_dataset, {"dataset": "tiny", **arguments})

    assert settings("adapt", method="cdtrans")["adapt.methods.cdtrans"]["noise"]["weight"] == 0.0  # {} in params.yaml
    assert "pretrain.tiny" in settings("evaluate", method="source_only")
    assert "adapt.recipes.tiny" in settings("evaluate", method="cdtrans")
    assert list(settings("download", archive="mnist")["domains"]) == ["mnist"]
    for stage in (*STAGES, *ASIDES):
        given = {"archive": "mnist", "domain": "mnist", "method": "cdtrans", "source": "mnist", "target": "synthetic"}
        found = settings(stage, **given, experiment="tiny")
        assert len(found) == len(SETTINGS[stage]) + len(FACTS[stage])
        assert json.loads(json.dumps(found)) == found


def test_another_datasets_settings_do_not_matter(tiny_params: Params, tiny_dataset: DatasetSpec) -> None:
    content = tiny_params.model_dump()
    content["pretrain"]["digits"]["epochs"] += 1
    arguments = {"dataset": "tiny", "source": "mnist"}
    assert settings_of("pretrain", Params.model_validate(content), tiny_dataset, arguments) == settings_of(
        "pretrain", tiny_params, tiny_dataset, arguments
    )


@pytest.mark.parametrize(
    "result",
    [
        "digits_table.csv",
        "digits_scales.csv",
        "digits/evaluated/cdtrans/synthetic-mnist/seed0/metrics.json",
        "digits/rescaled/cdtrans/synthetic-mnist/seed0/metrics.json",
    ],
)
def test_results_need_records(result: str, tmp_path: Path) -> None:
    paths, records = Paths(tmp_path), tmp_path / "metadata"
    require_records(paths, records)
    (tmp_path / "results" / result).parent.mkdir(parents=True)
    (tmp_path / "results" / result).write_text("")
    for _ in range(2):
        with pytest.raises(InputError, match="git checkout"):
            require_records(paths, records)
        records.mkdir(exist_ok=True)  # empty, it is as good as none
    (records / "record").write_text("{}")
    require_records(paths, records)


def test_records_of_variants_stay_out_of_git() -> None:
    """Names of records are in base64, so that .gitignore tells those of runs/ by how they begin."""
    from base64 import urlsafe_b64encode

    pattern = next(line for line in (PROJECT / ".gitignore").read_text().splitlines() if "cnVucy" in line)
    names = {
        path: urlsafe_b64encode(path.encode()).decode() for path in ("runs/a", "runs/Ö", "runsa", "results/runs/a")
    }
    ignored = {path for path, name in names.items() if fnmatchcase(f".snakemake/metadata/{name}", pattern)}
    assert ignored == {"runs/a", "runs/Ö"}


def test_dvc_copies_what_it_tracks() -> None:
    """Links would make results read-only, and let DVC change times behind Snakemake's back."""
    config = configparser.ConfigParser()
    config.read(PROJECT / ".dvc/config")
    assert config["cache"]["type"] == '"reflink,copy"'
    assert not any(section.startswith("'remote") for section in config)  # a remote is the user's own
