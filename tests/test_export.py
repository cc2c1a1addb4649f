"""A trained model for others: every form of it gives the same logits, and its card is true."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from small_model import MODEL

from dacsm.cli.main import main
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data.transforms import centre_view, normalise
from dacsm.evaluation.classify import classify, load_trained
from dacsm.models.classifier import Classifier, Description, load_checkpoint
from dacsm.models.folded import fold, folded_head
from dacsm.models.hub_folder import Trained, hub_config, load_folder, write_weights
from dacsm.models.onnx import onnx_logits, write_onnx
from dacsm.runtime.device import choose_compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import write_json
from dacsm.stages import export as stage
from dacsm.stages.adapt import adapt
from dacsm.stages.evaluate import evaluate
from dacsm.stages.export import export
from dacsm.stages.pretrain import pretrain

TASK = "synthetic-mnist"
CPU = choose_compute("cpu")
CLASSES = ("a", "b", "c", "d", "e")


def network(**changes: object) -> Classifier:
    """A classifier with random weights, whose neck has seen something."""
    torch.manual_seed(0)
    classifier = Classifier(Description(MODEL.model_copy(update=changes), CLASSES)).eval()
    neck = classifier.neck
    for tensor in (neck.running_mean, neck.weight, classifier.head.weight):
        torch.nn.init.normal_(tensor)
    torch.nn.init.uniform_(neck.running_var, 0.5, 2)
    return classifier


OTHER = dict.fromkeys(("patch_size", "dim", "depth", "heads"))  # no plain Vision Transformer
NETWORKS = {
    "plain": {},
    "resnet": {"name": "test_resnet", **OTHER},
    "a head inside": {"name": "convnext_atto", "image_size": 32, "resize": 36, **OTHER},
    "two heads": {"name": "deit_tiny_distilled_patch16_224", "image_size": 32, "resize": 33, **OTHER},
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_timm_alone_gives_the_same_logits(kind, tmp_path):
    classifier = network(**NETWORKS[kind])
    model = classifier.description.model
    folded, arguments = fold(classifier)
    config = hub_config(folded, arguments, classifier.description, 2.0)
    write_weights(tmp_path / "model.safetensors", folded)
    write_json(tmp_path / "config.json", config)
    again = timm.create_model(
        config["architecture"],
        pretrained=False,
        num_classes=len(CLASSES),
        checkpoint_path=tmp_path / "model.safetensors",
        **arguments,
    )
    from_hub = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    ours = load_folder(tmp_path)
    images = torch.randn(3, 1, model.image_size, model.image_size)
    with torch.inference_mode():
        expected = classifier(images)
        for form in (folded, again.eval(), from_hub.eval(), ours.network):
            torch.testing.assert_close(form(images), expected, rtol=1e-5, atol=1e-4)
    assert (ours.classes, ours.temperature) == (CLASSES, 2.0)

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40), dtype=np.uint8))
    prepare = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=config["pretrained_cfg"]))
    view = normalise(centre_view(picture, model)[None], model)
    torch.testing.assert_close(prepare(picture)[None], view)
    torch.testing.assert_close(normalise(centre_view(picture, ours.model)[None], ours.model), view)


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(2, 7))
def test_neck_and_head_are_one_layer(seed, width, classes):
    generator = torch.Generator().manual_seed(seed)
    neck, head = torch.nn.BatchNorm1d(width).eval().double(), torch.nn.Linear(width, classes, bias=False).double()
    with torch.no_grad():
        for tensor in (neck.running_mean, neck.weight, neck.bias, head.weight):
            tensor.normal_(generator=generator)
        neck.running_var.uniform_(0.01, 4, generator=generator)
        features = torch.randn(5, width, generator=generator, dtype=torch.float64)
        weight, bias = folded_head(neck, head)
        folded = torch.nn.functional.linear(features, weight.double(), bias.double())
        torch.testing.assert_close(folded, head(neck(features)), rtol=1e-4, atol=1e-4)


def test_a_network_without_a_linear_head_is_refused(monkeypatch):
    classifier = network(name="resnet18", **OTHER)
    monkeypatch.setattr("dacsm.models.folded._heads", lambda _network: ("layer4",))
    with pytest.raises(InputError, match=r"resnet18 cannot be exported as a plain network of timm \(its classifier is"):
        fold(classifier)


@pytest.mark.parametrize("kind", ["plain", "resnet"])
def test_onnx_gives_the_same_logits_for_any_number_of_images(kind, tmp_path, capfd):
    folded, _arguments = fold(network(**{"depth": 1, **NETWORKS[kind]}))
    write_onnx(folded, torch.zeros(1, 1, 28, 28), tmp_path / "model.onnx")
    for count in (1, 5):
        images = torch.randn(count, 1, 28, 28)
        with torch.inference_mode():
            torch.testing.assert_close(onnx_logits(tmp_path / "model.onnx", images), folded(images), rtol=0, atol=1e-4)
    assert tuple(capfd.readouterr()) == ("", "")
    assert str(Path(timm.__file__).parents[1]).encode() not in (tmp_path / "model.onnx").read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@pytest.fixture(scope="module")
def trained(tiny_params, tiny_dataset, tiny_paths, tmp_path_factory) -> Paths:
    """A root with tiny's shards, a source model, one that CDTrans adapted, and their evaluations."""
    paths = Paths(tmp_path_factory.mktemp("exported"))
    shutil.copytree(tiny_paths.root / "data", paths.root / "data")
    project = Project(tiny_params, tiny_dataset, paths)
    pretrain(project, "synthetic", 0, CPU)
    adapt(project, "cdtrans", TASK, 0, CPU)
    for method in ("source_only", "cdtrans"):
        evaluate(project, method, TASK, 0, CPU)
    return paths


def changed(params: Params, onnx: bool = False, **pretrain: object) -> Params:
    recipe = params.pretrain["tiny"].model_copy(update=pretrain)
    exported = params.export.model_copy(update={"onnx": onnx})
    return params.model_copy(update={"export": exported, "pretrain": {**params.pretrain, "tiny": recipe}})


@pytest.fixture(scope="module")
def exported(trained, tiny_params, tiny_dataset) -> Path:
    """The folder of the adapted model, ONNX included."""
    measured = export(Project(tiny_params, tiny_dataset, trained), "cdtrans", TASK, 0, CPU)
    assert 0 <= measured["largest_difference_timm"] < 1e-4
    assert 0 <= measured["largest_difference_onnx"] < 1e-4
    assert measured["images_compared"] == 60
    return trained.exported("tiny", "cdtrans", TASK, 0)


def front_matter(folder: Path) -> dict:
    return yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_the_folder_is_whole(exported):
    names = {"README.md", "LICENSE", "config.json", "model.safetensors", "model.onnx"}
    assert {file.name for file in exported.iterdir()} == names
    assert "CC BY-SA" in (exported / "LICENSE").read_text(encoding="utf-8")


def test_the_front_matter_is_what_the_hub_reads(exported, trained):
    content = (exported / "README.md").read_text(encoding="utf-8")
    facts = front_matter(exported)
    assert (facts["license"], facts["library_name"], facts["datasets"]) == ("other", "timm", ["tiny"])
    metrics = json.loads((trained.evaluated("tiny", "cdtrans", TASK, 0) / "metrics.json").read_text())["selected"]
    results = ModelCard(content).data.eval_results
    assert [result.metric_value for result in results] == [metrics["overall"], metrics["mean_per_class"]]
    for result in results:
        assert result.metric_name.endswith("epoch selected by infomax, without target labels")
        assert (result.task_type, result.dataset_split) == ("image-classification", "mnist")


def test_the_code_of_the_card_runs(exported, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(exported, tmp_path / "elsewhere")
    monkeypatch.chdir(folder)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))
    picture.save("picture.png")
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 2
    scope: dict = {}
    exec("\n".join(blocks), scope)
    torch.testing.assert_close(torch.from_numpy(scope["logits"]), scope["model"](scope["images"]), rtol=0, atol=1e-4)
    name, chance = capsys.readouterr().out.split()
    assert main(["predict", ".", "picture.png"]) == 0
    assert capsys.readouterr().out == f"picture.png\t{name}\t{chance}\n"


def test_the_card_says_what_was_measured_and_how(exported):
    words = " ".join((exported / "README.md").read_text(encoding="utf-8").split())
    config = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    assert f"Temperature: **{config['temperature']:g}**" in words
    assert "It need not hold on the target" in words
    assert "`synthetic`, held out" in words
    assert "`mnist`, measured afterwards with its labels" in words
    assert "was selected by `infomax`. No label of the target was used to train or to select." in words
    assert "run record: `none that vouches for this checkpoint`" in words  # stages by hand leave none
    source, target = config["calibration"]["source"], config["calibration"]["target"]
    assert (source["images"], target["images"]) == (6, 60)
    assert source["negative_log_likelihood"][1] <= source["negative_log_likelihood"][0]


def test_predictions_are_those_of_the_checkpoint_but_for_their_confidence(exported, trained, tmp_path):
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    checkpoint = trained.adapted("tiny", "cdtrans", TASK, 0) / "model.safetensors"
    plain, ours = load_trained(checkpoint), load_trained(exported / "model.safetensors")
    hot = Trained(ours.network, ours.model, ours.classes, 5.0)
    found = [list(classify(model, [tmp_path], 10, CPU)) for model in (plain, ours, hot)]
    for before, after, flat in zip(*found, strict=True):
        assert [name for name, _ in before.classes] == [name for name, _ in after.classes]
        logits = torch.tensor([chance for _, chance in before.classes]).log() / ours.temperature
        assert [chance for _, chance in after.classes] == pytest.approx(logits.softmax(0).tolist(), abs=1e-4)
        assert flat.classes[0][1] < min(after.classes[0][1], before.classes[0][1])


def test_without_held_out_images_there_is_no_temperature(trained, tiny_params, tiny_dataset, tmp_path):
    paths = Paths(shutil.copytree(trained.root, tmp_path / "root"))
    export(Project(changed(tiny_params, held_out=0), tiny_dataset, paths), "source_only", TASK, 0, CPU)
    folder = paths.exported("tiny", "source_only", TASK, 0)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["temperature"], list(config["calibration"])) == (None, ["bins", "target"])
    words = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    assert "There is no temperature, since no source images were held out" in words
    assert "It was not adapted" in words
    assert "The epoch of these weights, 2, is the last one." in words
    assert not (folder / "model.onnx").exists()
    assert load_folder(folder).temperature is None


def test_a_target_without_labels_has_no_accuracy_and_no_calibration_error(trained, tiny_params, tiny_dataset, tmp_path):
    paths = Paths(shutil.copytree(trained.root, tmp_path / "root"))
    path = paths.evaluated("tiny", "cdtrans", TASK, 0) / "metrics.json"
    metrics = json.loads(path.read_text())
    selected = {key: metrics["selected"][key] for key in ("selection", "epoch")}
    write_json(path, {"images": 60, "checkpoint_epoch": metrics["checkpoint_epoch"], "selected": selected})
    unlabelled = tiny_dataset.domains["mnist"].model_copy(update={"labelled": False})
    dataset = tiny_dataset.model_copy(update={"domains": {**tiny_dataset.domains, "mnist": unlabelled}})
    export(Project(changed(tiny_params), dataset, paths), "cdtrans", TASK, 0, CPU)
    folder = paths.exported("tiny", "cdtrans", TASK, 0)
    assert list(json.loads((folder / "config.json").read_text())["calibration"]) == ["bins", "source"]
    assert not {"metrics", "model-index"} & front_matter(folder).keys()
    words = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    assert "The images of `mnist` have no labels, so that the accuracy on them is not known." in words
    assert "It need not hold on the target**, whose calibration was not measured" in words


def test_what_onnx_lacks_is_said_before_any_work(trained, tiny_params, tiny_dataset, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("dacsm.models.onnx.find_spec", lambda name: None if name == "onnxscript" else found(name))
    with pytest.raises(
        InputError, match=r'needs onnxscript, .* `uv pip install --editable "\.\[onnx\]"`, or set export'
    ):
        export(Project(tiny_params, tiny_dataset, trained), "cdtrans", TASK, 9, CPU)


def test_forms_that_differ_fail_and_leave_the_earlier_ones(trained, exported, tiny_params, tiny_dataset, monkeypatch):
    before = {file.name: file.read_bytes() for file in exported.iterdir()}
    project = Project(tiny_params, tiny_dataset, trained)
    monkeypatch.setattr(stage, "write_onnx", lambda _network, _images, path: path.touch())
    monkeypatch.setattr(stage, "onnx_logits", lambda _path, images: torch.full((len(images), 10), torch.nan))
    with pytest.raises(InputError, match=r"model.onnx gives logits that differ by nan .* expected less than 1e-04"):
        export(project, "cdtrans", TASK, 0, CPU)
    monkeypatch.setattr(stage, "LARGEST", 0.0)
    with pytest.raises(InputError, match=r"cannot be exported as a plain network of timm \(its logits differ by"):
        export(project, "cdtrans", TASK, 0, CPU)
    assert {file.name: file.read_bytes() for file in exported.iterdir()} == before


def test_numbers_of_another_epoch_are_refused(trained, tiny_params, tiny_dataset, tmp_path):
    paths = Paths(shutil.copytree(trained.root, tmp_path / "root"))
    path = paths.evaluated("tiny", "cdtrans", TASK, 0) / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["checkpoint_epoch"] = metrics["selected"]["epoch"] + 1
    write_json(path, metrics)
    project = Project(changed(tiny_params), tiny_dataset, paths)
    with pytest.raises(InputError, match="make the checkpoint anew with `snakemake --forcerun adapt`"):
        export(project, "cdtrans", TASK, 0, CPU)
    path.unlink()
    with pytest.raises(InputError, match="make it with `dacsm evaluate tiny cdtrans synthetic-mnist --seed 0`"):
        export(project, "cdtrans", TASK, 0, CPU)


def cut(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"cut")


def no_temperature(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, "temperature": -1})


def from_the_hub(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, "architecture": "hf-hub:someone/something"})


def pretrained(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, "model_args": {**config["model_args"], "pretrained": True}})


def another_width(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({**state, "head.bias": torch.zeros(3)}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (cut, "model.safetensors cannot be read as weights"),
        (no_temperature, "config.json cannot be read (temperature is -1.0, expected more than 0)"),
        (from_the_hub, "config.json cannot be read (architecture is 'hf-hub:someone/something', which timm does not"),
        (pretrained, "do not belong together (timm.models._factory.create_model() got multiple values for keyword"),
        (another_width, "model.safetensors and config.json do not belong together"),
        (lambda folder: (folder / "config.json").unlink(), "is no folder of `dacsm export`, as it has no config.json"),
    ],
)
def test_a_damaged_folder_is_one_sentence(exported, tmp_path, capsys, damage, sentence):
    folder = shutil.copytree(exported, tmp_path / "folder")
    damage(folder)
    Image.new("L", (28, 28)).save(tmp_path / "a.png")
    assert main(["predict", str(folder), str(tmp_path / "a.png")]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1


def test_the_same_bytes_again(trained, tiny_params, tiny_dataset):
    folder, found = trained.exported("tiny", "source_only", TASK, 0), []
    for _ in range(2):
        export(Project(changed(tiny_params), tiny_dataset, trained), "source_only", TASK, 0, CPU)
        found.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert found[0] == found[1]


def test_the_checkpoint_stays_as_it_is(exported, trained):
    classifier = load_checkpoint(trained.adapted("tiny", "cdtrans", TASK, 0) / "model.safetensors")
    assert load_folder(exported).classes == classifier.description.classes
