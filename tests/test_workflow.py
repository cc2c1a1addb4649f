"""The pipeline as a user runs it: Snakemake and DVC on a tiny dataset, in a project of its own.

All tests share one copy of the built project: each leaves it as it was.
"""

import csv
import json
import shutil
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from tiny_project import ProjectFolder

from dacsm.config.presets import PRESETS
from dacsm.ledger.pipeline import STAGES
from dacsm.ledger.provenance import code_of
from dacsm.report.published import PUBLISHED

NOTHING = "Nothing to be done"
ADAPTED = Path("results/tiny/adapted/dacsm/synthetic-mnist/seed0")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(built: ProjectFolder, tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    return built.copy(tmp_path_factory.mktemp("workflow"))


def test_one_command_makes_the_table(project: ProjectFolder) -> None:
    with (project.folder / "results/tiny_table.csv").open(newline="") as file:
        rows = {(row["method"], row["selection"], row["seeds"]) for row in csv.DictReader(file)}
    assert {("source_only", "last epoch", "0 1"), ("dacsm", "infomax", "0 1")} <= rows
    assert "dacsm" in (project.folder / "results/tiny_table.md").read_text()
    page = (project.folder / "results/tiny/report.html").read_text()
    assert page.count("<img ") > 20  # of the images right and wrong, and the pictures
    assert "left no run records" not in page
    records = (project.folder / "results/tiny/records").rglob("*.json")
    assert Counter(path.relative_to(project.folder).parts[3] for path in records) == {
        "downloaded": 2,
        "sharded": 2,
        "pretrained": 2,
        "adapted": 2,
        "evaluated": 4,
        "tabled.json": 1,
        "summarised.json": 1,
    }


@pytest.mark.parametrize("name", [stage.name for stage in STAGES.values() if not stage.optional])
def test_dvc_lists_what_snakemake_uses(project: ProjectFolder, name: str) -> None:
    """A file that only one of the two knows would let the other record what is not so."""
    text = (project.folder / "dvc.yaml").read_text().replace("${item}", "tiny").replace("${key}", "tiny")
    stage = yaml.safe_load(text)["stages"][name]["do"]
    outs = [place for entry in (*stage["outs"], *stage.get("metrics", [])) for place in entry]
    used, made = project.files_of(name)
    # Presets and code are in what Snakemake's params say; tiny has no published numbers.
    assert str(PRESETS) in stage["deps"]
    assert {file for file in code_of(name) if not any(Path(file).is_relative_to(dep) for dep in stage["deps"])} == set()
    deps = [dep for dep in stage["deps"] if dep not in (str(PRESETS), str(PUBLISHED)) and not dep.startswith("dacsm/")]
    for found, listed in ((used, deps), (made, outs)):
        assert {path for path in found if not any(Path(path).is_relative_to(place) for place in listed)} == set()
        assert {place for place in listed if not any(Path(path).is_relative_to(place) for path in found)} == set()


def test_a_second_run_does_nothing(project: ProjectFolder) -> None:
    assert NOTHING in project.snakemake()


def test_times_do_not_count(project: ProjectFolder) -> None:
    for path in (*project.folder.glob("data/**/*"), *project.folder.glob("dacsm/**/*.py")):
        path.touch()
    assert NOTHING in project.snakemake("-n")


def test_a_methods_key_touches_that_method_alone(project: ProjectFolder) -> None:
    with project.setting("adapt.methods.dat.noise.prior", 0.25):  # it is not in the experiment
        assert project.jobs() == {}
    with project.setting("adapt.methods.dacsm.style.weight", 2.0):
        assert project.jobs() == {"adapt": 2, "evaluate": 2, "table": 1, "summarise": 1}


def test_pretraining_settings_touch_all_that_follows(project: ProjectFolder) -> None:
    with project.setting("pretrain.digits.label_smoothing", 0.2):
        assert project.jobs() == {}
    tiny = (project.folder / "params.yaml").read_text().split("pretrain:")[1].split("adapt:")[0].split("  tiny:")[1]
    with project.edited("params.yaml", tiny, tiny.replace("label_smoothing: 0.1", "label_smoothing: 0.2")):
        assert project.jobs() == {"pretrain": 2, "adapt": 2, "evaluate": 4, "table": 1, "summarise": 1}


def test_a_preset_touches_what_it_says_alone(project: ProjectFolder) -> None:
    """Moving settings into a preset changes nothing; editing the preset runs what reads them."""
    preset = project.folder / PRESETS / "briefly.yaml"
    text = (project.folder / "params.yaml").read_text()
    tiny = text.split("adapt:")[1].split("  recipes:")[1].split("    tiny:")[1].split("  methods:")[0]
    preset.write_text("epochs: 2\nbatch_size: 16\n")
    named = tiny.replace("      epochs: 2\n      batch_size: 16\n", "      preset: briefly\n")
    try:
        with project.edited("params.yaml", tiny, named):
            assert "preset: briefly" in (project.folder / "params.yaml").read_text()
            assert project.jobs() == {}
            preset.write_text("epochs: 3\nbatch_size: 16\n")
            assert project.jobs() == {"adapt": 2, "evaluate": 2, "table": 1, "summarise": 1}
            preset.write_text("epochs: 2\n")
            printed = project.snakemake("-n", ok=False).rstrip().splitlines()[-1]
            assert "adapt.recipes.tiny.batch_size is missing" in printed
    finally:
        preset.unlink()


def test_a_new_seed_runs_alone(project: ProjectFolder) -> None:
    text = (project.folder / "params.yaml").read_text()
    tiny = text.split("experiments:")[1].split("  tiny:")[1].split("shard:")[0]
    with project.edited("params.yaml", tiny, tiny.replace("    - 1\n", "    - 1\n    - 7\n")):
        assert project.jobs() == {"pretrain": 1, "adapt": 1, "evaluate": 2, "table": 1, "summarise": 1}


def test_a_cell_names_the_command_that_makes_it_again(project: ProjectFolder) -> None:
    printed = project.run("dacsm", "cell", "tiny", "dacsm", "3")
    assert "data: mnist " in printed
    assert "adapt dacsm/synthetic-mnist/seed1: " in printed
    command = printed.splitlines()[-1].split()
    assert command[:3] == ["snakemake", "--cores", "all"]
    before = (project.folder / ADAPTED / "model.safetensors").stat().st_mtime_ns
    project.run(*command)
    assert (project.folder / ADAPTED / "model.safetensors").stat().st_mtime_ns > before
    assert NOTHING in project.snakemake("-n")  # the same bytes: the table stands
    assert project.run("dacsm", "cell", "tiny", "dacsm", "3").splitlines()[0] == printed.splitlines()[0]


def test_a_plan_knows_what_is_made(project: ProjectFolder) -> None:
    printed = project.run("dacsm", "plan", "tiny")
    assert "evaluate      0      4" in printed
    assert "time       none" in printed
    methods = "    methods:\n    - source_only\n"
    tiny = f"    - synthetic-mnist\n{methods}    - dacsm\n"
    with project.edited("params.yaml", tiny, tiny.replace(methods, f"{methods}    - cdtrans\n")):
        printed = project.run("dacsm", "plan", "tiny")
    assert "adapt         2      2" in printed
    assert "adapt cdtrans: 2 runs, " in printed


def test_what_is_beside_the_table_is_made_when_asked_for(project: ProjectFolder) -> None:
    assert project.jobs("results/tiny_scales.csv") == {"rescale": 4, "scales": 1}
    assert project.jobs("tiny_rescaled") == {"rescale": 4, "tiny_rescaled": 1}
    assert project.jobs("tiny_explained") == {"explain": 1, "tiny_explained": 1}  # the first seed of what is adapted
    assert project.jobs("tiny_exported") == {"export": 2, "tiny_exported": 1}  # the first seed of each method
    with project.edited("params.yaml", "rescale:\n  scales:\n  - 0.5\n", "rescale:\n  scales:\n  - 0.4\n"):
        assert NOTHING in project.snakemake("-n")  # the table knows nothing of scales


@pytest.mark.long
def test_what_is_beside_the_table_is_made_and_audited(project: ProjectFolder, tmp_path: Path) -> None:
    project = project.copy(tmp_path)
    runs = [f"results/tiny/{phase}/dacsm/synthetic-mnist/seed0" for phase in ("explained", "exported")]
    files = ("results/tiny_scales.csv", f"{runs[0]}/attention.png", f"{runs[1]}/config.json")
    project.cold = True  # one run of each stage is a process that loads the libraries itself
    project.snakemake("results/tiny/rescaled/dacsm/synthetic-mnist/seed0/metrics.json", *files[1:])
    project.cold = False
    project.snakemake(*files)
    assert NOTHING in project.snakemake(*files, "all")
    for phase, count in (("rescaled", 4), ("scaled", 1), ("explained", 1)):
        assert f"{count} result" in project.run("dacsm", "audit", "--phase", phase)
    card = (project.folder / runs[1] / "README.md").read_text(encoding="utf-8")
    record = json.loads((project.folder / "results/tiny/records/adapted/dacsm/synthetic-mnist/seed0.json").read_text())
    assert f"commit: `{record['git']['commit']}`" in card
    assert all(f"sha256 of {name}: `{found}`" in card for name, found in record["inputs"].items())
    with project.edited("params.yaml", "  onnx: true\n", "  onnx: false\n"):
        assert project.jobs(*files) == {"export": 1}
    tracked = project.git("status", "--porcelain", "--untracked-files=all")
    assert "results/tiny/rescaled/dacsm/synthetic-mnist/seed0/metrics.json" in tracked
    with project.edited("results/tiny_scales.csv", "synthetic-mnist,dacsm,0.5,0 1,", "synthetic-mnist,dacsm,0.5,0 1,9"):
        printed = project.run("dacsm", "audit", "--phase", "scaled", ok=False)
    assert "where the rescaled runs give" in printed


def test_comments_in_every_module_re_make_nothing(project: ProjectFolder) -> None:
    with ExitStack() as edits:
        for path in (project.folder / "dacsm").rglob("*.py"):
            edits.enter_context(project.edited(str(path.relative_to(project.folder)), '"""', '# A comment.\n"""More. '))
        edits.enter_context(project.edited("params.yaml", "root", "# A comment.\nroot"))
        assert NOTHING in project.snakemake("-n")


@pytest.mark.parametrize(
    ("file", "jobs"),
    [
        ("dacsm/report/statistics.py", {"table": 1, "summarise": 1}),
        ("dacsm/stages/evaluate.py", {"evaluate": 4, "table": 1, "summarise": 1}),
        ("dacsm/methods/cdtrans/parts/noise.py", {"adapt": 2, "evaluate": 2, "table": 1, "summarise": 1}),
        ("dacsm/stages/pretrain.py", {"pretrain": 2, "adapt": 2, "evaluate": 4, "table": 1, "summarise": 1}),
        ("dacsm/config/params.py", {}),
        ("dacsm/cli/main.py", {}),
    ],
)
def test_an_edit_of_code_re_makes_what_it_computes(project: ProjectFolder, file: str, jobs: dict[str, int]) -> None:
    path = project.folder / file
    before = path.read_text()
    path.write_text(f"{before}\nAN_EDIT = 1\n")
    try:
        assert project.jobs() == jobs
    finally:
        path.write_text(before)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("refresh_epochs: 1", "refresh_epochs: none", "refresh_epochs is 'none'"),
        ("datasets:\n- tiny", "datasets:\n- tiny\n- moons", "datasets names 'moons', but tables has no"),
        ("- synthetic-mnist", "- mnist-mnist", "no task 'mnist-mnist'"),
        ("root: .", "root: .\nspeed: 3", "speed is not a known key"),
        ("root: .", "root: . .: .", "params.yaml"),
    ],
)
def test_bad_params_end_in_one_sentence(project: ProjectFolder, old: str, new: str, sentence: str) -> None:
    with project.edited("params.yaml", old, new):
        printed = project.snakemake("-n", ok=False)
    last = printed.rstrip().splitlines()[-1]
    assert sentence in last
    assert "Traceback" not in printed


def test_a_dataset_without_settings_ends_in_a_sentence(project: ProjectFolder) -> None:
    shutil.copy(project.folder / "workflow/datasets/tiny.yaml", project.folder / "workflow/datasets/other.yaml")
    try:
        printed = project.snakemake("-n", "data/shards/other/mnist/index.json", ok=False)
    finally:
        (project.folder / "workflow/datasets/other.yaml").unlink()
    assert printed.rstrip().splitlines()[-1].startswith("dacsm: other has no settings")


def test_a_table_of_no_experiment_ends_in_a_sentence(project: ProjectFolder) -> None:
    printed = project.snakemake("-n", "results/tny_table.csv", ok=False).rstrip().splitlines()[-1]
    assert printed.startswith("dacsm: params.yaml: experiments has no entry for 'tny'; it has digits, ")


def test_an_override_needs_a_root_of_its_own(project: ProjectFolder, tmp_path: Path) -> None:
    variant = tmp_path / "variant.yaml"
    variant.write_text("pretrain: {tiny: {epochs: 1}}")
    printed = project.snakemake("-n", "--configfile", str(variant), ok=False)
    assert "root=runs/NAME" in printed.rstrip().splitlines()[-1]
    jobs = project.jobs("--configfile", str(variant), "--config", "root=runs/short")
    assert jobs == {"download": 2, "shard": 2, "pretrain": 2, "adapt": 2, "evaluate": 4, "table": 1, "summarise": 1}
    assert not (project.folder / "runs/short").exists()  # a dry run writes nothing


def test_a_failed_job_leaves_its_sentence_last(project: ProjectFolder) -> None:
    target = "runs/broken/data/shards/tiny/mnist/index.json"
    with project.edited("workflow/datasets/tiny.yaml", "images: 60", "images: 61"):
        printed = project.snakemake("--config", "root=runs/broken", "--", target, ok=False)
    last = printed.rstrip().splitlines()[-1]
    assert last.startswith("dacsm: ")
    assert "60 images of mnist" in last
    written = yaml.safe_load((project.folder / "runs/broken/params.yaml").read_text())
    assert written == yaml.safe_load((project.folder / "params.yaml").read_text()) | {"root": "runs/broken"}
    assert "runs" not in project.git("status", "--porcelain", "--untracked-files=all")


def test_results_without_records_are_refused(project: ProjectFolder) -> None:
    records = project.folder / ".snakemake/metadata"
    records.rename(records.with_name("hidden"))
    try:
        printed = project.snakemake("-n", ok=False)
    finally:
        records.with_name("hidden").rename(records)
    assert "git checkout -- .snakemake/metadata" in printed.rstrip().splitlines()[-1]


def test_adapting_never_reads_the_targets_labels(project: ProjectFolder) -> None:
    run = project.folder / ADAPTED
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    labels = [project.folder / f"data/shards/tiny/mnist/{name}" for name in ("labels.csv", "counts.csv")]
    for path in labels:
        path.rename(path.with_suffix(".hidden"))
    try:
        project.run("python", "-m", "dacsm", "adapt", "tiny", "dacsm", "synthetic-mnist", "--seed", "0")
    finally:
        for path in labels:
            path.with_suffix(".hidden").rename(path)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert NOTHING in project.snakemake("-n")


def test_a_killed_pipeline_goes_on_inside_the_run(project: ProjectFolder) -> None:
    """Snakemake and its job are killed together; at its next start it removes the outputs, but not the saved state."""
    model, log = ADAPTED / "model.safetensors", project.folder / f"logs/{ADAPTED}.log"
    before = (project.folder / model).read_bytes()
    for _ in range(5):  # where it was over too soon, it is killed in the next try
        project.kill(
            ".resume/tiny-adapted-dacsm-synthetic-mnist-seed0-*/state.pt", "--forcerun", "adapt", "--", str(model)
        )
        if any(project.folder.glob(".resume/*/state.pt")):
            break
    project.snakemake("--unlock")
    project.snakemake(str(model))
    assert "going on after epoch " in log.read_text()
    assert (project.folder / model).read_bytes() == before
    assert not any(project.folder.glob(".resume/*"))
    assert NOTHING in project.snakemake()
    assert project.git("status", "--porcelain", ".resume") == ""
