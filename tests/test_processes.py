"""A run on several processes comes to what a run on one comes to: two by gloo, on the CPU."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from in_processes import see, tell

from dacsm.cli.main import main
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.models.classifier import Classifier, Description, load_checkpoint, require_parts
from dacsm.runtime import processes, resume
from dacsm.runtime.device import choose_compute, free_gpu
from dacsm.runtime.errors import InputError
from dacsm.runtime.processes import own
from dacsm.stages.adapt import adapt
from dacsm.stages.pretrain import pretrain

METHODS = ("cdtrans", "everything", "shot", "cdan", "mic")
LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
DRIVER = Path(__file__).with_name("in_processes.py")
CLOSE = 5e-6  # between the weights after 20 steps

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tiny_params, tiny_dataset, tiny_paths, tmp_path_factory) -> Project:
    """Four epochs of five steps, in batches that two processes cannot halve; a source model that is of some use.

    With SGD, as CDTrans has it. AdamW turns the roundings of gradients that are zero in theory, such as those of the
    keys' biases, into steps of the learning rate.
    """
    methods, given = dict(tiny_params.adapt.methods), tiny_params.pretrain["tiny"]
    everything = {
        "source_style": methods["dacsm"].source_style.model_copy(update={"weight": 0.5, "spread": 0.5}),
        "matching": methods["dacsm"].matching.model_copy(update={"after_epochs": 2}),
    }
    methods["everything"] = methods["dacsm_mic"].model_copy(update=everything)
    recipe = tiny_params.adapt.recipes["tiny"]
    sgd = recipe.optimiser.model_copy(update={"name": "sgd", "learning_rate": 0.01})
    changes = {"epochs": 4, "batch_size": 5, "max_pairs": 25, "refresh_epochs": 2, "averaging": 0.5, "optimiser": sgd}
    recipes = {"tiny": recipe.model_copy(update=changes)}
    adapt = tiny_params.adapt.model_copy(update={"methods": methods, "recipes": recipes})
    root = tmp_path_factory.mktemp("processes")
    (root / "data").symlink_to(tiny_paths.root / "data")

    def made(**changes: Any) -> Project:
        recipes = {"tiny": given.model_copy(update=changes)}
        params = tiny_params.model_copy(update={"adapt": adapt, "pretrain": recipes})
        return Project(params, tiny_dataset, Paths(root))

    pretrain(made(epochs=25), "synthetic", 0, choose_compute("cpu"))
    # Not from nothing: an untrained network, whose tokens are small, blows roundings up a hundredfold.
    trained = load_checkpoint(Paths(root).pretrained("tiny", "synthetic", 0) / "model.safetensors").backbone
    torch.save(trained.state_dict(), root / "weights.pth")
    model = given.model.model_copy(update={"weights": str(root / "weights.pth")})
    return made(epochs=4, batch_size=13, optimiser=sgd, model=model)


def apart(project: Project, root: Path) -> Project:
    """The same project, whose results go elsewhere."""
    root.mkdir(parents=True)
    (root / "data").symlink_to(project.paths.root / "data")
    source = Paths(root).pretrained("tiny", "synthetic", 0)
    source.mkdir(parents=True)
    content = (project.paths.pretrained("tiny", "synthetic", 0) / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(content)
    return Project(project.params, project.dataset, Paths(root))


def by_two(folder: Path, *calls: tuple[Any, ...]) -> None:
    """Two processes make calls of `tell`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "calls").write_bytes(pickle.dumps(calls))
    subprocess.run([*LAUNCH, str(DRIVER), str(folder / "calls")], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def halves(project, tmp_path_factory) -> dict[str | None, tuple[Project, Project]]:
    """By what is run: where two processes begin it and one goes on, and the other way round."""
    folder = tmp_path_factory.mktemp("halves")
    whos = ("two", "one")
    return {name: tuple(apart(project, folder / f"{who}-{name}") for who in whos) for name in (None, "everything")}


@pytest.fixture(scope="module")
def told(project, halves, tmp_path_factory) -> Path:
    """What one process and two have told of pretraining and of all methods; then both halves begin, and are killed.

    That is after 7 of 20 steps, inside the second epoch.
    """
    folder = tmp_path_factory.mktemp("told")
    whole = ((folder, apart(project, folder / f"two-{name}"), name) for name in (*METHODS, None))
    begun = ((folder / "at two", two, name, two.paths.root / "state", 7) for name, (two, _) in halves.items())
    by_two(folder, *whole, *begun)
    for name in (*METHODS, None):
        tell(folder, apart(project, folder / f"one-{name}"), name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "SAVE_EVERY", 0.0)
        for name, (_, one) in halves.items():
            tell(folder / "at one", one, name, one.paths.root / "state", 7)
    assert not list(folder.glob("at */*"))
    return folder


def of(folder: Path, name: str) -> list[dict[str, Any]]:
    """What one process, the first of two, and the second told of a run."""
    return [torch.load(folder / f"{name}-{who}.pt", weights_only=False) for who in ("alone", 0, 1)]


def difference(one: dict[str, Any], other: dict[str, Any], part: str) -> float:
    """The largest one between the tensors of a part in two states."""
    return max((tensor - other[part][name]).abs().max().item() for name, tensor in one[part].items())


@pytest.mark.parametrize("name", ["pretrain", *METHODS])
def test_weights_are_those_of_one_process(name, told):
    runs = of(told, name)
    assert [run["steps"] for run in runs] == [20, 20, 20]
    assert difference(runs[0]["epochs"][-1], runs[0]["epochs"][0], "classifier") > 100 * CLOSE
    for alone, first, second in zip(*(run["epochs"] for run in runs), strict=True):
        parts = [part for part in ("classifier", "average") if part in alone]
        assert [difference(first, second, part) for part in parts] == [0] * len(parts)
        assert all(difference(alone, first, part) < CLOSE for part in parts)


@pytest.mark.parametrize("name", ["pretrain", *METHODS])
def test_random_states_are_those_of_one_process(name, told):
    alone, *two = of(told, name)
    for run in two:
        assert torch.equal(run["drawn"], alone["drawn"])
        for one, other in zip(alone["epochs"], run["epochs"], strict=True):
            assert torch.equal(one["generators"]["torch"], other["generators"]["torch"])
            if name == "everything":
                generators = (each["method"]["noise"]["generator"] for each in (one, other))
                assert torch.equal(*generators)


@pytest.mark.parametrize("name", ["cdtrans", "everything"])
def test_pairs_and_pseudo_labels_are_those_of_one_process(name, told):
    runs = [[epoch["method"]["matches"] for epoch in run["epochs"]] for run in of(told, name)]
    for alone, *two in zip(*runs, strict=True):
        assert len(alone["pairs"]["source"]) > 5
        for each in two:
            assert torch.equal(each["pseudo_labels"], alone["pseudo_labels"])
            assert all(torch.equal(each["pairs"][name], column) for name, column in alone["pairs"].items())


def test_only_the_first_process_keeps_what_an_epoch_predicted(told):
    alone, first, second = (run["epochs"][-1]["history"]["rows"] for run in of(told, "everything"))
    assert [row["epoch"] for row in first] == [1, 2, 3, 4]
    assert second == []
    for one, other in zip(alone, first, strict=True):
        assert one.keys() == other.keys() > {"noise_gain", "pyramid", "masking", "consistency", "infomax"}
        assert all(abs(one[name] - other[name]) < 1e-3 for name in one)


def test_features_are_seen_in_parts_and_all_get_the_whole(told, project):
    alone = see(told, project)
    for rank in (0, 1):
        seen = torch.load(told / f"seen-{rank}.pt")
        assert all(torch.equal(seen[name], alone[name]) for name in alone)


@pytest.fixture(scope="module")
def continued(told, halves, tmp_path_factory) -> Path:
    """What one process told that went on with what two began, and two that went on with what one began."""
    folder = tmp_path_factory.mktemp("continued")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "SAVE_EVERY", 0.0)
        for name, (two, _) in halves.items():
            tell(folder / "two, then one", two, name, two.paths.root / "state")
    begun_by_one = ((name, one) for name, (_, one) in halves.items())
    by_two(folder, *((folder / "one, then two", one, name, one.paths.root / "state") for name, one in begun_by_one))
    return folder


@pytest.mark.parametrize("name", ["pretrain", "everything"])
def test_a_run_that_is_killed_goes_on_with_another_number_of_processes(name, told, continued):
    whole = of(told, name)[0]["epochs"][-1]
    for who in ("two, then one/{}-alone.pt", "one, then two/{}-0.pt", "one, then two/{}-1.pt"):
        run = torch.load(continued / who.format(name), weights_only=False)
        assert run["steps"] == 13
        assert difference(run["epochs"][-1], whole, "classifier") < CLOSE
        assert torch.equal(run["epochs"][-1]["generators"]["torch"], whole["generators"]["torch"])


def test_parts_follow_each_other_and_leave_nothing_out(monkeypatch):
    for size, parts in ((13, 4), (4, 4), (64, 8)):
        monkeypatch.setattr(processes, "count", lambda parts=parts: parts)
        found = [own(size, part) for part in range(parts)]
        assert [index for part in found for index in range(size)[part]] == list(range(size))
        assert max(part.stop - part.start for part in found) <= -(-size // parts)
    monkeypatch.setattr(processes, "count", lambda: 4)
    assert own(3) == slice(0, 3)


def test_the_command_leaves_one_record_that_says_how_many(project, tmp_path):
    content = project.params.model_dump(mode="json")
    content["datasets"], content["experiments"] = ["tiny"], {"tiny": content["experiments"]["tiny"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "workflow/datasets").mkdir(parents=True)
    (tmp_path / "workflow/datasets/tiny.yaml").write_text(yaml.safe_dump(project.dataset.model_dump(mode="json")))
    (tmp_path / "data").symlink_to(project.paths.root / "data")
    command = (*LAUNCH, "-m", "--", "dacsm", "pretrain", "tiny", "synthetic", "--seed", "0", "--device", "cpu")
    ended = subprocess.run([*command, "--log", "log"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    printed = ended.stderr
    assert printed.count("epoch 4/4") == 1
    assert (tmp_path / "log").read_text().count("epoch 4/4") == 1
    (record,) = (tmp_path / "results/tiny/records").rglob("*.json")
    assert json.loads(record.read_text())["processes"] == 2
    assert not list(tmp_path.glob(".resume/*"))


@pytest.fixture
def one_of_two(monkeypatch):
    """This process takes itself for one of two."""
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)


def test_what_cannot_be_done_by_two_is_one_sentence(project, tiny_params, one_of_two, monkeypatch, capsys):
    resnet = tiny_params.pretrain["tiny"].model.model_copy(
        update={"name": "resnet18", "patch_size": None, "dim": None, "depth": None, "heads": None, "drop_path": 0}
    )
    with pytest.raises(InputError, match="2 processes make this run, but resnet18 is no plain Vision Transformer"):
        require_parts(Classifier(Description(resnet, project.dataset.classes)))
    with pytest.raises(InputError, match="2 processes make this run, but attention_dropout is"):
        adapt(project, "attention_dropout", "synthetic-optdigits", 0, choose_compute("cpu"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match="2 processes of this run want a GPU each"):
        free_gpu()
    assert main(["table", "digits"]) == 2
    assert "dacsm table is the work of one process; start it without torchrun." in capsys.readouterr().err
