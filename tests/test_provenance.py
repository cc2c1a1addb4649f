"""What a run depends on: its settings, and the code that computes it, by its meaning."""

import configparser
import json
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params, parse_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.ledger import provenance, runs
from dacsm.ledger.pipeline import STAGES
from dacsm.ledger.provenance import chosen_by, code_of, require_records, settings_of
from dacsm.ledger.runs import Run, run_key
from dacsm.runtime.errors import InputError

CHECKOUT = Path(__file__).parents[1]
SOURCE = (
    '"""A module."""\nimport numpy as np\n\n\ndef area(side):\n    """Of a square."""\n    return np.square(side)\n'
)


@pytest.fixture
def project(tiny_params: Params, tiny_dataset: DatasetSpec) -> Project:
    return Project(tiny_params, tiny_dataset, Paths())


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, which may be edited."""
    shutil.copytree(CHECKOUT / "dacsm", tmp_path / "dacsm", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "dacsm")
    return tmp_path / "dacsm"


def meaning(source: str) -> str:
    return provenance._understood(source.encode(), "dacsm")[1]


@pytest.mark.parametrize(
    "same",
    [
        "# A comment.\n" + SOURCE,
        SOURCE.replace("A module.", "A module of geometry."),
        SOURCE.replace('    """Of a square."""\n', ""),
        SOURCE.replace("np.square(side)", "np.square(\n        side,\n    )  # in square metres"),
        SOURCE.replace("\n\n\n", "\n"),
    ],
)
def test_words_and_layout_have_no_meaning(same: str) -> None:
    assert meaning(same) == meaning(SOURCE)


@pytest.mark.parametrize(
    "other",
    [
        SOURCE.replace("square(side)", "square(side + 0)"),
        SOURCE.replace("side", "edge"),
        SOURCE + "area(2)\n",
        SOURCE.replace('    """Of a square."""\n', '    unit = "Of a square."\n'),
        SOURCE.replace("square(side)", "square(side, True)"),
        SOURCE.replace("square(side)", "square(side, None)"),
    ],
)
def test_code_has(other: str) -> None:
    assert meaning(other) != meaning(SOURCE)


def test_code_is_found_wherever_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "__init__.py": "",
        "stages/__init__.py": "",
        "stages/adapt.py": "from dacsm.models.vit import ViT\ndef run():\n    import dacsm.data.late\n",
        "data/__init__.py": "",
        "data/late.py": "from . import sibling\nimport numpy, dacsm.config.params, dacsm.runtime.errors",
        "data/sibling.py": "import dacsm.stages.adapt  # a circle",
        "config/params.py": "import dacsm.unused",
        "unused.py": "",
        "models/__init__.py": "",
        "models/vit.py": "from importlib import import_module\nimport_module(f'dacsm.methods.{name}')",
        "methods/__init__.py": "",
        "methods/small.py": "",
        "methods/large/__init__.py": "from dacsm.methods.large import core",
        "methods/large/core.py": "def noisy():\n    from dacsm.methods.large.parts.noise import add\n"
        "    from dacsm.methods.large.parts import scale",
        "methods/large/parts/__init__.py": "",
        "methods/large/parts/noise.py": "import dacsm.data.random",
        "methods/large/parts/scale.py": "",
        "data/random.py": "",
    }
    for name, content in files.items():
        (tmp_path / "dacsm" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dacsm" / name).write_text(content)
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "dacsm")
    always = {"stages/__init__.py", "stages/adapt.py", "data/__init__.py", "data/late.py", "data/sibling.py",
              "models/__init__.py", "models/vit.py", "methods/__init__.py"}  # fmt: skip
    large = {"methods/large/__init__.py", "methods/large/core.py", "methods/large/parts/__init__.py"}

    def found(*chosen: str) -> set[str]:
        code = code_of("adapt", frozenset(f"dacsm.methods.{name}" for name in chosen))
        return {name.removeprefix("dacsm/") for name in code}

    assert found("small") == always | {"methods/small.py"}
    assert found("large") == always | large
    noise = {"methods/large/parts/noise.py", "data/random.py"}
    assert found("large", "large.parts.noise") == always | large | noise
    everything = {name.removeprefix("dacsm/") for name in code_of("adapt")}
    assert everything == always | large | noise | {"methods/small.py", "methods/large/parts/scale.py"}


RUNS = {
    "pretrain": ("pretrain", {"source": "synthetic"}),
    "source_only": ("evaluate", {"method": "source_only", "task": "synthetic-mnist"}),
    "cdtrans": ("adapt", {"method": "cdtrans", "task": "synthetic-mnist"}),
    "csm": ("adapt", {"method": "csm", "task": "synthetic-mnist"}),
    "dacsm": ("adapt", {"method": "dacsm", "task": "synthetic-mnist"}),
    "shot": ("adapt", {"method": "shot", "task": "synthetic-mnist"}),
    "cdan": ("adapt", {"method": "cdan", "task": "synthetic-mnist"}),
    "mic": ("adapt", {"method": "mic", "task": "synthetic-mnist"}),
    "evaluate": ("evaluate", {"method": "dacsm", "task": "synthetic-mnist"}),
    "table": ("table", {"experiment": "tiny"}),
    "page": ("summarise", {"experiment": "tiny"}),
    "shard": ("shard", {"domain": "mnist"}),
}
OF_CDTRANS = {"cdtrans", "csm", "dacsm"}
ADAPTED = OF_CDTRANS | {"shot", "cdan", "mic"}
TRAINED = ADAPTED | {"pretrain"}
MEASURED = {"source_only", "evaluate"}
EDITS = [
    # An edit of this file re-makes these runs, and no others.
    ("stages/table.py", {"table"}),
    ("stages/summarise.py", {"page"}),
    ("report/html/examples.py", {"page"}),
    ("report/statistics.py", {"table", "page"}),
    ("stages/evaluate.py", MEASURED),
    ("stages/pretrain.py", {"pretrain"}),
    ("stages/adapt.py", ADAPTED),
    ("methods/__init__.py", ADAPTED),
    ("methods/shot.py", {"shot"}),
    ("methods/cdan.py", {"cdan"}),
    ("methods/mic.py", {"mic"}),
    ("methods/cdtrans/method.py", OF_CDTRANS),
    ("adaptation/adversarial.py", {"cdan", "mic"}),
    ("adaptation/teacher.py", {"mic"}),
    ("methods/cdtrans/parts/noise.py", {"dacsm"}),
    ("methods/cdtrans/parts/pyramid.py", {"csm", "dacsm"}),
    ("methods/cdtrans/parts/consistency.py", {"csm", "dacsm"}),
    ("methods/cdtrans/parts/matching.py", {"csm", "dacsm"}),
    ("methods/cdtrans/parts/masking.py", set()),  # no method of these has it
    ("adaptation/target_views.py", {"csm", "dacsm"}),
    ("methods/cdtrans/losses.py", OF_CDTRANS),
    ("adaptation/validators/snd.py", MEASURED),
    ("adaptation/validators/infomax.py", MEASURED),  # by which recipes select
    ("training/optim.py", TRAINED),
    ("models/classifier.py", TRAINED | MEASURED),
    ("data/transforms.py", TRAINED | MEASURED),
    ("data/raw/digits.py", {"shard"}),
    ("data/raw/archives.py", set()),  # this dataset is read otherwise
    ("config/params.py", set()),  # what a run takes from the settings is recorded with it
    ("runtime/progress.py", set()),
    ("cli/main.py", set()),
    ("ledger/audit/traces.py", set()),
]


def digests(project: Project) -> Iterator[tuple[str, dict[str, str]]]:
    for name, (stage, arguments) in RUNS.items():
        yield name, code_of(stage, chosen_by(project, arguments))


@pytest.mark.parametrize(("file", "runs"), EDITS, ids=[file for file, _ in EDITS])
def test_an_edit_re_makes_exactly_what_it_changes(file: str, runs: set[str], project: Project, package: Path) -> None:
    before = dict(digests(project))
    path = package / file
    path.write_text('"""Other words."""\n# A comment.\n' + path.read_text(encoding="utf-8"), encoding="utf-8")
    moved = path.read_text(encoding="utf-8").replace('"""Other words."""\n', "", 1)  # its own docstring is the first
    path.write_text(moved, encoding="utf-8")
    assert dict(digests(project)) == before
    path.write_text(moved + "\n_AN_EDIT = 1\n", encoding="utf-8")
    assert {name for name, code in digests(project) if code != before[name]} == runs


def test_settings_are_resolved_and_those_of_the_run(project: Project) -> None:
    def settings(stage: str, **arguments: str) -> dict:
        return settings_of(project, stage, {"dataset": "tiny", **arguments})

    assert settings("adapt", method="cdtrans")["adapt.methods.cdtrans"]["noise"]["weight"] == 0.0  # as it defaults to
    assert "pretrain.tiny.epochs" in settings("evaluate", method="source_only")
    assert "adapt.recipes.tiny.validator" in settings("evaluate", method="cdtrans")
    assert list(settings("download", archive="mnist")["domains"]) == ["mnist"]
    for stage, declared in STAGES.items():
        given = {
            "archive": "mnist",
            "domain": "mnist",
            "method": "cdtrans",
            "source": "mnist",
            "task": "mnist-synthetic",
        }
        found = settings(stage, **given, experiment="tiny")
        assert len(found) == len(declared.settings) + len(declared.facts)
        assert json.loads(json.dumps(found)) == found


def test_what_a_method_changes_of_its_recipe_is_a_setting_of_its_runs(project: Project) -> None:
    longer = settings_of(project, "adapt", {"dataset": "tiny", "method": "equal_compute"})["adapt.recipes.tiny"]
    plain = settings_of(project, "adapt", {"dataset": "tiny", "method": "cdtrans"})["adapt.recipes.tiny"]
    assert longer == plain | {"epochs": round(1.4 * plain["epochs"])}


def test_another_datasets_settings_do_not_matter(project: Project) -> None:
    content = project.params.model_dump(mode="json")
    content["pretrain"]["digits"]["epochs"] += 1
    content["resources"]["tiny"] = content["resources"]["default"] | {"workers": 3}  # they change no number
    other = Project(parse_params(content), project.dataset, Paths())
    arguments = {"dataset": "tiny", "source": "mnist"}
    assert settings_of(other, "pretrain", arguments) == settings_of(project, "pretrain", arguments)


def test_all_that_decides_the_bits_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = (tmp_path / "index.json", tmp_path / "missing")
    inputs[0].write_text("one")

    def key(stage="adapt", seed=0, epochs=2, code="a", device="cpu") -> str:
        run = Run(stage, {"seed": seed}, tmp_path, tmp_path, inputs, ())
        return run_key(run, {"epochs": epochs}, {"dacsm/stages/adapt.py": code}, device)

    keys = [key(), key(stage="pretrain"), key(seed=1), key(epochs=3), key(code="b"), key(device="cuda")]
    assert key() == keys[0]
    inputs[0].write_text("two")
    keys.append(key())
    inputs[1].write_text("")
    keys.append(key())
    monkeypatch.setattr(runs, "version", lambda _package: "9")
    keys.append(key())
    assert len(set(keys)) == len(keys)


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

    pattern = next(line for line in (CHECKOUT / ".gitignore").read_text().splitlines() if "cnVucy" in line)
    names = {
        path: urlsafe_b64encode(path.encode()).decode() for path in ("runs/a", "runs/Ö", "runsa", "results/runs/a")
    }
    ignored = {path for path, name in names.items() if fnmatchcase(f".snakemake/metadata/{name}", pattern)}
    assert ignored == {"runs/a", "runs/Ö"}


def test_dvc_copies_what_it_tracks() -> None:
    """Links would make results read-only, and let DVC change times behind Snakemake's back."""
    config = configparser.ConfigParser()
    config.read(CHECKOUT / ".dvc/config")
    assert config["cache"]["type"] == '"reflink,copy"'
    assert not any(section.startswith("'remote") for section in config)  # a remote is the user's own
