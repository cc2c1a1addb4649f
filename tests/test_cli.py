"""The command line: what it imports, what it says, and what it leaves behind."""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

from dacsm.cli.main import main
from dacsm.config.presets import Presets

PROJECT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a function in place of a stage."""

    def put(name: str, function: Callable) -> None:
        module = ModuleType(f"dacsm.stages.{name}")
        setattr(module, name, function)
        monkeypatch.setitem(sys.modules, f"dacsm.stages.{name}", module)

    return put


def raising(error: BaseException) -> Callable[..., None]:
    def function(*_: object, **__: object) -> None:
        print("one line of progress")
        raise error

    return function


@pytest.mark.parametrize("arguments", [["--help"], ["adapt", "--help"]])
def test_help_waits_for_no_heavy_import(arguments: list[str]) -> None:
    heavy = "{'torch', 'numpy', 'pandas', 'pydantic', 'yaml', 'sklearn', 'matplotlib'}"
    code = f"""import sys
from dacsm.cli.main import main
try:
    main({arguments})
except SystemExit as end:
    assert end.code == 0
print(sorted({heavy} & set(sys.modules)))"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.startswith("usage: dacsm")
    assert printed.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("table didgits", "experiments has no entry for 'didgits'; it has digits"),
        ("download digits tapes", "no archive 'tapes'"),
        ("shard digits paintings", "no domain 'paintings'"),
        ("pretrain digits paintings --seed 0", "no domain 'paintings'"),
        ("adapt digits cdtrans mnist --seed 0", "no task 'mnist'"),
        ("adapt digits magic synthetic-mnist --seed 0", "adapt.methods has no 'magic'"),
        ("adapt digits source_only synthetic-mnist --seed 0", "nothing to adapt"),
        ("evaluate digits magic synthetic-mnist --seed 0", "adapt.methods has no 'magic'"),
        ("rescale digits magic synthetic-mnist --seed 0", "adapt.methods has no 'magic'"),
        ("rescale digits cdtrans mnist --seed 0", "no task 'mnist'"),
        ("scales didgits", "no entry for 'didgits'"),
        ("explain digits source_only synthetic-mnist --seed 0", "no pairs to explain; name an adapted method"),
        ("explain digits cdtrans mnist --seed 0", "no task 'mnist'"),
        ("export digits magic synthetic-mnist --seed 0", "adapt.methods has no 'magic'"),
        ("export digits cdtrans mnist --seed 0", "no task 'mnist'"),
        ("table digits --params nowhere.yaml", "nowhere.yaml was not found"),
        ("table digits --log pyproject.toml/log", "--log pyproject.toml/log cannot be written"),
        ("table digits --log .", "--log . cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(command: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("dacsm: ")
    assert sentence in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("", "required: COMMAND"),
        ("tabel digits", "invalid choice: 'tabel'"),
        ("adapt digits cdtrans synthetic-mnist", "required: --seed"),
        ("adapt digits cdtrans synthetic-mnist --seed -1", "'-1' is not a whole number from 0"),
        ("adapt digits cdtrans synthetic-mnist --seed 0.5", "'0.5' is not a whole number from 0"),
        ("table digits --colour red", "unrecognized arguments: --colour red"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(command: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(command.split())
    printed = capsys.readouterr().err
    assert end.value.code == 2
    assert sentence in printed
    assert printed.count("\n") == 1


class OutOfMemoryError(RuntimeError):
    """As torch's is called."""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "shard.tar"), "shard.tar cannot be written"),
        (MemoryError(), "the memory ran out"),
        (OutOfMemoryError("CUDA out of memory"), "the memory ran out"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "the memory ran out"),
    ],
)
def test_a_full_machine_is_one_sentence(
    error: Exception, sentence: str, stage: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    stage("table", raising(error))
    assert main(["table", "digits"]) == 2
    assert capsys.readouterr().err.startswith(f"dacsm: {sentence}")


def test_ctrl_c_is_a_short_line(stage: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    stage("table", raising(KeyboardInterrupt()))
    assert main(["table", "digits"]) == 130
    assert capsys.readouterr().err == "dacsm: interrupted.\n"


def test_the_log_has_what_was_printed(
    stage: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "logs/table.log"
    stage("table", raising(MemoryError()))
    assert main(["table", "digits", "--log", str(log)]) == 2
    printed = capsys.readouterr()
    assert log.read_text() == printed.out + printed.err
    assert printed.out == "one line of progress\n"


def test_a_mistake_of_ours_keeps_its_traceback(stage: Callable[..., None], tmp_path: Path) -> None:
    stage("table", raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        main(["table", "digits", "--log", str(tmp_path / "log")])
    assert "ZeroDivisionError: a bug" in (tmp_path / "log").read_text()


def test_a_run_leaves_a_record(stage: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = Presets("params.yaml").resolve(yaml.safe_load((PROJECT / "params.yaml").read_text()))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({**params, "root": str(tmp_path)}))
    seen = {}

    def evaluate(project, method, task, seed, compute) -> dict[str, float]:
        seen.update(method=method, task=task, seed=seed, compute=compute)
        run = project.paths.evaluated(project.dataset.name, method, task, seed)
        run.mkdir(parents=True)
        for name in ("metrics.json", "predictions.csv"):
            (run / name).write_text("{}")
        return {"images_per_second": 7.0}

    compute = ModuleType("dacsm.runtime.device")
    compute.choose_compute = lambda device, workers, folder: SimpleNamespace(
        device=SimpleNamespace(type=device), workers=workers, features_folder=folder
    )
    monkeypatch.setitem(sys.modules, "dacsm.runtime.device", compute)
    stage("evaluate", evaluate)
    for needed in (
        "data/shards/digits/mnist/index.json",
        "results/digits/pretrained/synthetic/seed7/model.safetensors",
    ):
        (tmp_path / needed).parent.mkdir(parents=True)
        (tmp_path / needed).write_text(needed)

    command = "evaluate digits source_only synthetic-mnist --seed 7 --device cpu --workers 3"  # 7: in no experiment
    monkeypatch.setenv("DACSM_FEATURES_FOLDER", str(tmp_path))
    assert main([*command.split(), "--params", str(tmp_path / "params.yaml")]) == 0
    assert seen["compute"].features_folder == tmp_path
    record = json.loads(
        (tmp_path / "results/digits/records/evaluated/source_only/synthetic-mnist/seed7.json").read_text()
    )
    assert (seen["seed"], seen["compute"].workers) == (7, 3)
    assert record["arguments"] == {"dataset": "digits", "method": "source_only", "task": "synthetic-mnist", "seed": 7}
    recipe = params["pretrain"]["digits"]
    assert record["settings"]["pretrain.digits.epochs"] == recipe["epochs"]
    assert record["settings"]["pretrain.digits.precision"] == recipe["precision"]
    assert len(record["inputs"]) == 2
    assert record["measured"] == {"images_per_second": 7.0}
