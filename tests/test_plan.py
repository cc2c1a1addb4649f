"""What a table would take: how many runs, downloads, disk and hours, and what is already made."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dacsm.cli.main import main
from dacsm.config.datasets import DatasetSpec, load_dataset
from dacsm.config.params import Params, load_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.ledger import plan
from dacsm.ledger import speed as speed_module
from dacsm.ledger.runs import runs_of
from dacsm.ledger.speed import Speed
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError

PROJECT = Path(__file__).parents[1]
CPU = Compute(torch.device("cpu"))


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(PROJECT / "params.yaml")


@pytest.fixture
def planned(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The lines for a dataset, of which the stages in `made` are made, at made-up speeds."""
    monkeypatch.setattr(plan, "predict_speed", lambda *_: Speed(0.001, 256))
    monkeypatch.setattr(plan, "pretrain_speed", lambda *_: Speed(0.01, 64))
    monkeypatch.setattr(plan, "adapt_speed", lambda _p, _d, method, *_: Speed(0.03 if method == "dacsm" else 0.02, 64))

    def lines(name: str, made: tuple[str, ...] = ()) -> list[str]:
        project = Project(params, params.load_dataset_of(name), Paths(tmp_path))
        runs = runs_of(project, params.experiment(name))
        unmade = {run.outputs[0] for run in runs if run.stage not in made}
        monkeypatch.setattr(plan, "pending", lambda *_: unmade)
        return list(plan.describe_plan(project, name, CPU))

    return lines


def test_the_runs_of_visda(planned: Callable[..., list[str]]) -> None:
    lines = planned("visda")
    assert lines[0] == "VisDA-2017: 1 task, 3 methods, 3 seeds, deit_base_patch16_224"
    counts = {words[0]: words[1:] for line in lines[2:9] if (words := line.split())}
    assert counts == {"download": ["2", "0"], "shard": ["2", "0"], "pretrain": ["3", "0"], "adapt": ["6", "0"],
                      "evaluate": ["9", "0"], "table": ["1", "0"], "summarise": ["1", "0"]}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("office_home", {"shard": 4, "pretrain": 12, "adapt": 72, "evaluate": 108, "table": 1, "summarise": 1}),
        ("domainnet", {"shard": 6, "pretrain": 18, "adapt": 180, "evaluate": 270, "table": 1, "summarise": 1}),
        ("office31", {"shard": 3, "pretrain": 9, "adapt": 36, "evaluate": 54, "table": 1, "summarise": 1}),
        ("office_caltech10", {"shard": 4, "pretrain": 8, "adapt": 48, "evaluate": 72, "table": 1, "summarise": 1}),
    ],
)
def test_the_number_of_runs(params: Params, name: str, stages: dict[str, int]) -> None:
    dataset = load_dataset(name)
    found = Counter(run.stage for run in runs_of(Project(params, dataset, Paths()), params.experiment(name)))
    assert found.pop("download") == len(dataset.archives)
    assert found == stages


def test_downloads_and_disk(planned: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(planned("visda"))
    assert "downloads  8.72 GB of known size in 2 archives\n  train.tar: 7.7 GB\n  validation.tar: 1.02 GB" in text
    assert "raw archives 8.72 GB, shards 4.2" in text
    assert "checkpoints 5.15 GB" in text  # 3 + 2 × 6 files of 86 million float32
    text = "\n".join(planned("domainnet"))
    assert "of unknown size: " in text
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 10**6}))
    assert "that is more than is free" in "\n".join(planned("visda"))


def test_the_hours_are_those_of_the_steps(planned: Callable[..., list[str]]) -> None:
    """3 seeds on VisDA: 20 epochs of its 152,397 renders; then 40 of at most 207,785 pairs, and passes over domains."""
    lines = {line.split(":")[0].strip(): line for line in planned("visda") if "run" in line and ":" in line}
    source, target = 152_397, 55_388
    pretrain = 3 * 20 * source * 0.01 / 3600
    assert f"{pretrain:.1f} h, at 100 images/s (measured at 64 a step)" in lines["pretrain"]
    cdtrans = 3 * (40 * (source + target) * 0.02 + (40 * target + 4 * source + target) * 0.001) / 3600
    assert f"3 runs, {cdtrans:,.0f} h, at 50 pairs/s" in lines["adapt cdtrans"]
    passes = 40 * target + 4 * (source + 2 * target) + target  # twice more, for the other scales
    dacsm = 3 * (40 * (source + target) * 0.03 + passes * 0.001) / 3600
    assert f"3 runs, {dacsm:,.0f} h, at 33.3 pairs/s" in lines["adapt dacsm"]


def test_what_is_made_is_not_counted(planned: Callable[..., list[str]]) -> None:
    lines = planned("visda", made=("download", "shard", "pretrain"))
    assert "  pretrain      0      3" in lines
    assert "downloads  none, all is here" in lines
    assert not any(line.startswith("  pretrain:") for line in lines)
    lines = planned("visda", made=("download", "shard", "pretrain", "adapt", "evaluate", "table", "summarise"))
    assert lines[-1] == "time       none: every model is made and evaluated"


def test_without_snakefile_there_is_a_sentence(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(params, load_dataset("visda"), Paths())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="snakemake cannot tell what is made: "):
        plan.pending(project, "visda")


def test_a_dataset_without_settings_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(PROJECT)
    assert main(["plan", "visda_test", "--device", "cpu"]) == 2
    assert "experiments has no entry for 'visda_test'; it has digits, " in capsys.readouterr().err


def test_a_plan_of_a_further_experiment_names_it(planned: Callable[..., list[str]]) -> None:
    assert planned("digits_ablation")[0].startswith("Digits (digits_ablation): 1 task, ")


@pytest.mark.parametrize("method", ["cdtrans", "dacsm"])
def test_a_step_is_measured_with_the_recipes_model(
    method: str, tiny_params: Params, tiny_dataset: DatasetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed_module, "ENOUGH", 0.05)
    threads = torch.get_num_threads()
    for speed in (
        speed_module.adapt_speed(tiny_params, tiny_dataset, method, CPU),
        speed_module.pretrain_speed(tiny_params, tiny_dataset, CPU),
        speed_module.predict_speed(tiny_params, tiny_dataset, CPU),
    ):
        assert 0 < speed.seconds < 1
        assert 2 <= speed.batch <= 256
    torch.set_num_threads(threads)


def test_a_slow_device_is_measured_by_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, batches = [0.0], []

    def step(batch: int) -> None:
        clock[0] += 10 + 2 * batch + 100 * (not batches)  # seconds: for the step, for an image, and for the first
        batches.append(batch)

    monkeypatch.setattr(speed_module, "_now", lambda _compute: clock[0])
    assert speed_module._measure(step, 64, CPU) == Speed((10 + 2 * 64) / 64, 4)
    assert batches == [2, 2, 2, 4, 4]


def test_a_fast_device_is_measured_at_the_recipes_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []
    speed = speed_module._measure(batches.append, 64, CPU)
    assert speed.batch == 64
    assert batches == sorted(batches)


def test_parameters_are_counted_without_memory(params: Params) -> None:
    dataset = load_dataset("visda")
    count = speed_module.parameters_of(params.recipe("pretrain", "visda").model, dataset)
    assert count == 85_798_656 + 4 * 768 + 1 + 12 * 768  # DeiT-B, the neck, the head
