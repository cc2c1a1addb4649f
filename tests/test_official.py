"""Checkpoints of the public CDTrans program: what is loaded, what is refused, and what is said of it."""

import os
import pickle
import shutil
from collections import OrderedDict
from pathlib import Path

import cdtrans_reference as reference
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dacsm.cli.main import main
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data.shards import ShardedImages
from dacsm.evaluation.predictions import predict
from dacsm.models.backbone import build_backbone, load_weights
from dacsm.models.classifier import Classifier, Description, load_checkpoint
from dacsm.models.official import describe, import_cdtrans, official_name, read_official
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.stages.adapt import adapt
from dacsm.stages.evaluate import evaluate

State = dict[str, Tensor]


def state(**sizes) -> State:
    """A small network under official names: 12 channels, 3 heads, 3 blocks, images of 12 pixels, 5 classes."""
    return reference.random_state(0, **sizes)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: OrderedDict((f"module.{key}", value) for key, value in tensors.items()),
        lambda tensors: {"model": tensors, "epoch": 3},
        lambda tensors: {"state_dict": {f"module.{key}": value for key, value in tensors.items()}},
        lambda tensors: {key: value.half() if "norm" in key else value for key, value in tensors.items()},
    ],
    ids=["plain", "DataParallel", "under model", "under state_dict, DataParallel", "half precision"],
)
def test_a_released_checkpoint_becomes_one_of_ours(tmp_path, wrap):
    path = saved(tmp_path / "released.pth", wrap(state()))
    import_cdtrans(path, tmp_path / "model.safetensors", heads=3, classes=("a", "b", "c", "d", "e"))
    classifier = load_checkpoint(tmp_path / "model.safetensors")
    assert classifier.description.classes == ("a", "b", "c", "d", "e")
    model = classifier.description.model
    assert (model.image_size, model.patch_size, model.dim, model.depth, model.heads) == (12, 4, 12, 3, 3)
    images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    given = reference.float64({key.removeprefix("module."): value for key, value in read_official(path).items()})
    features = reference.neck_in_evaluation(given, reference.plain(given, 3, images.double()))
    with torch.no_grad():
        found = classifier(images)
    torch.testing.assert_close(found.double(), features @ given["classifier.weight"].T, rtol=1e-4, atol=1e-4)


def test_a_safetensors_file_is_read_too(tmp_path):
    save_file(state(), tmp_path / "released.safetensors")
    assert read_official(tmp_path / "released.safetensors").keys() == {k for k in state() if "base.fc" not in k}


def test_sizes_come_from_the_tensors():
    with torch.device("meta"):
        deit = reference.random_state  # only the shapes count
        small = describe(
            {k: v.to("meta") for k, v in deit(0, side=14, patch=16, width=384, depth=2, classes=65).items()}
        )
    model = small.model
    assert (model.name, model.image_size, model.resize, model.heads) == ("deit_small_patch16_224", 224, 256, 6)
    assert (model.mean, model.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert small.classes == tuple(str(number) for number in range(65))


def test_views_come_from_the_settings_of_a_dataset_with_images_of_that_size(tiny_params):
    recipe = tiny_params.recipe("pretrain", "tiny").model
    fitting = state(channels=1, patch=7, side=4)
    model = describe(fitting, heads=3, recipe=recipe).model
    assert (model.resize, model.mean, model.std) == (recipe.resize, recipe.mean, recipe.std)
    with pytest.raises(InputError, match="images of 1 channel, whose mean and deviation it does not tell"):
        describe(state(channels=1), heads=3, recipe=recipe)


def broken(**changes: Tensor | None) -> State:
    """The state with tensors put in or, where None, taken out; `__` stands for a dot."""
    tensors = state()
    for key, value in changes.items():
        tensors.pop(key.replace("__", "."), None)
        if value is not None:
            tensors[key.replace("__", ".")] = value
    return tensors


@pytest.mark.parametrize(
    ("tensors", "lines"),
    [
        (broken(base__blocks__1__attn__qkv__bias=None), ["base.blocks.1.attn.qkv.bias is missing"]),
        (broken(base__extra=torch.zeros(2)), ["base.extra is unexpected"]),
        (broken(base__norm__bias=torch.zeros(5)), ["base.norm.bias is 5, expected 12"]),
        (broken(base__cls_token=torch.full((1, 1, 12), torch.nan)), ["base.cls_token has values that are not finite"]),
        (broken(base__pos_embed=None), ["base.pos_embed is missing"]),
        (broken(base__pos_embed=torch.zeros(1, 12, 12)), ["base.pos_embed is 1×12×12, expected 1×197×12"]),
        (
            broken(classifier__weight=None, bottleneck__bias=None),
            ["bottleneck.bias is missing", "classifier.weight is"],
        ),
        (broken(classifier__weight=torch.zeros(())), ["classifier.weight is a number, expected 2×12"]),
        (
            broken(base__patch_embed__proj__weight=torch.zeros(12, 4, 4, 4)),
            ["base.patch_embed.proj.weight is 12×4×4×4"],
        ),
    ],
)
def test_every_tensor_that_does_not_fit_is_named_and_nothing_is_written(tmp_path, capsys, tensors, lines):
    path = saved(tmp_path / "released.pth", {f"module.{key}": value for key, value in tensors.items()})
    with pytest.raises(InputError, match=f"does not fit .* of . classes in {len(lines)} tensor") as raised:
        import_cdtrans(path, tmp_path / "model.safetensors", heads=3)
    assert "\n" not in str(raised.value)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(lines)
    for line, expected in zip(said, lines, strict=True):
        assert line.startswith(f"{path}: {expected}")
    assert not (tmp_path / "model.safetensors").exists()


def test_another_dataset_has_another_number_of_classes(tmp_path, capsys):
    path = saved(tmp_path / "released.pth", state())
    with pytest.raises(InputError, match="of 2 classes in 1 tensor, named above"):
        import_cdtrans(path, tmp_path / "model.safetensors", heads=3, classes=("a", "b"))
    assert "classifier.weight is 5×12, expected 2×12" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "12 channels wide, which is no multiple of 64, .* --heads"),
        ({"heads": 5}, "12 channels wide, which is no multiple of 5 heads"),
        ({"model": "base"}, "12 channels wide, but --model base is 768"),
        ({"model": "deit_huge"}, "'deit_huge', which timm does not know"),
        ({"model": "resnet18"}, "'resnet18', which is not a plain Vision Transformer"),
    ],
)
def test_models_that_are_not_the_file_s(options, words):
    with pytest.raises(InputError, match=words):
        describe(state(), **options)


class Payload:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_pickled_code_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    saved(tmp_path / "code.pth", state() | {"base.note": Payload(marker)})
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(Payload(marker)))
    for name in ("code.pth", "pickle.pth"):
        with pytest.raises(InputError, match=f"{name} (holds pickled code|is damaged, or a pickle).*, and is not run"):
            read_official(tmp_path / name)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "was not found"),
        (lambda path: path.write_bytes(b"no tensors"), "is damaged"),
        (lambda path: saved(path, torch.zeros(2)), "object of type Tensor, expected tensors by name"),
        (lambda path: saved(path, {"model": {"a": 3}}), "object of type int under 'a'"),
        (lambda path: saved(path, {"a": torch.zeros(2)}), r"holds a, expected the tensors of CDTrans"),
        (lambda path: saved(path, {}), r"holds nothing, expected the tensors of CDTrans"),
    ],
)
def test_files_that_are_no_checkpoint_of_cdtrans(tmp_path, make, words):
    make(tmp_path / "file.pth")
    with pytest.raises(InputError, match=words):
        read_official(tmp_path / "file.pth")


def test_a_backbone_is_named_as_weights_instead(tmp_path, tiny_params):
    model = tiny_params.recipe("pretrain", "tiny").model
    backbone = build_backbone(model)
    deit = {f"module.{key}": value for key, value in backbone.state_dict().items()}
    path = saved(tmp_path / "deit.pth", {"model": deit | {"module.head.weight": torch.zeros(9, 32)}})
    with pytest.raises(InputError, match=r"a backbone .* model\.weights .* in params\.yaml"):
        read_official(path)
    other = build_backbone(model)
    load_weights(other, str(path), model.name)
    for key, value in other.state_dict().items():
        assert torch.equal(value, backbone.state_dict()[key])


def test_the_command_names_classes_after_a_dataset_or_a_file(tmp_path, capsys):
    grey = saved(tmp_path / "grey.pth", state(classes=10, channels=1, patch=7, side=4))
    out = tmp_path / "model.safetensors"
    command = ["import-cdtrans", str(grey), "--heads", "3", "--out", str(out)]
    assert main([*command, "--dataset", "digits"]) == 0
    assert load_checkpoint(out).description.classes == tuple("0123456789")
    assert "10 classes" in capsys.readouterr().out
    assert main([*command, "--dataset", "digit"]) == 2
    assert "unknown dataset 'digit'" in capsys.readouterr().err

    names = tmp_path / "names.txt"
    names.write_text("".join(f"class {number}\n" for number in range(10)), encoding="utf-8")
    command[1] = str(saved(tmp_path / "colour.pth", state(classes=10)))
    assert main([*command, "--classes", str(names)]) == 0
    assert load_checkpoint(out).description.classes[9] == "class 9"
    names.write_text("one\none\n", encoding="utf-8")
    assert main([*command, "--classes", str(names)]) == 2
    assert "a class twice" in capsys.readouterr().err


def test_a_network_for_colour_is_refused_for_a_grey_dataset(tmp_path, capsys):
    path = saved(tmp_path / "rgb.pth", state(classes=10))
    assert main(["import-cdtrans", str(path), "--heads", "3", "--dataset", "digits", "--out", str(tmp_path / "m")]) == 2
    assert "3 channels" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_an_imported_model_is_evaluated_and_adapted_like_one_of_ours(tmp_path, tiny_dataset, tiny_params, tiny_paths):
    shutil.copytree(tiny_paths.root / "data", tmp_path / "data")
    paths = Paths(tmp_path)
    recipe = tiny_params.recipe("pretrain", "tiny").model
    torch.manual_seed(0)
    classifier = Classifier(Description(recipe, tiny_dataset.classes)).eval()
    released = {official_name(key): value for key, value in classifier.state_dict().items()}
    path = saved(tmp_path / "released.pth", released | {"base.fc.weight": torch.zeros(1000, 32)})
    out = paths.pretrained("tiny", "synthetic", 0) / "model.safetensors"
    description = import_cdtrans(path, out, dataset=tiny_dataset, heads=recipe.heads, recipe=recipe)
    assert (description.model.mean, description.model.resize) == (recipe.mean, recipe.resize)

    compute, task = Compute(torch.device("cpu")), "synthetic-optdigits"
    evaluate(Project(tiny_params, tiny_dataset, paths), "source_only", task, 0, compute)
    rows = (paths.evaluated("tiny", "source_only", task, 0) / "predictions.csv").read_text().splitlines()[1:]
    images = ShardedImages(paths.shards("tiny", "optdigits"))
    expected = predict(classifier, images, compute).predicted
    assert [int(row.split(",")[2]) for row in rows] == expected.tolist()
    adapt(Project(tiny_params, tiny_dataset, paths), "cdtrans", task, 0, compute)
    adapted = load_checkpoint(paths.adapted("tiny", "cdtrans", task, 0) / "last.safetensors")
    assert adapted.description == description
    assert not torch.equal(adapted.head.weight, classifier.head.weight)
