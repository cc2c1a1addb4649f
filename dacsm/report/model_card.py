"""The model card of an exported model, in the form of the Hugging Face hub: facts for programs, then for people."""

import math
from collections.abc import Iterator, Sequence
from textwrap import fill

import yaml
from tabulate import tabulate

from dacsm import __version__
from dacsm.config import SOURCE_ONLY
from dacsm.evaluation.calibration import BINS, LEAST, MOST
from dacsm.evaluation.metrics import LAST
from dacsm.report.exported import MEASURES, Exported, front_matter

MOST_CLASSES = 40  # of which each is listed with its accuracy
WIDTH = 110  # characters of a line

WITH_TIMM = """```python
import json

import timm
import torch
from PIL import Image

with open("config.json", encoding="utf-8") as file:
    config = json.load(file)
model = timm.create_model(
    config["architecture"],
    pretrained=False,
    num_classes=config["num_classes"],
    checkpoint_path="model.safetensors",
    **config["model_args"],
).eval()
prepare = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=config["pretrained_cfg"]))
images = prepare(Image.open("picture.png").convert("MODE"))[None]
with torch.inference_mode():
    logits = model(images)
probabilities = (logits / (config["temperature"] or 1)).softmax(dim=1)[0]
best = probabilities.argmax()
print(config["label_names"][best], f"{probabilities[best]:.4f}")
```"""
WITH_ONNX = """```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(logits,) = session.run(["logits"], {"images": images.numpy()})
```"""


def model_card(model: Exported) -> str:
    """The text of README.md."""
    facts = yaml.safe_dump(front_matter(model), sort_keys=False, allow_unicode=True, width=WIDTH)
    sections = (_what, _use, _data, _accuracy, _calibration, _limits, _files, _made_from)
    blocks = [block for section in sections for block in section(model)]
    return f"---\n{facts}---\n\n" + "\n\n".join(blocks) + "\n"


def _what(model: Exported) -> Iterator[str]:
    source, target = model.domains
    titles = {domain: model.dataset.domains[domain].title for domain in model.domains}
    shown = {domain: f"`{domain}`{f' ({title})' * (title != domain)}" for domain, title in titles.items()}
    yield f"# {model.dataset.title}: {source} to {target}, {model.method}, seed {model.seed}"
    trained = (
        f"An image classifier for {model.classes} classes, on timm's `{model.config['architecture']}`. It was trained "
        f"on labelled images of {shown[source]}. "
    )
    if model.method == SOURCE_ONLY:
        yield _paragraph(f"{trained}It was not adapted: it saw no image of {shown[target]}.")
        return
    yield _paragraph(
        f"{trained}It was then adapted to unlabelled images of {shown[target]} by the method `{model.method}` (kind "
        f"`{model.kind}`) of dacsm {__version__}, which saw no label of the target."
    )


def _use(model: Exported) -> Iterator[str]:
    images = model.config["pretrained_cfg"]
    channels, _height, size = images["input_size"]
    squashed = math.floor(size / images["crop_pct"])
    colours = ("L", "grey") if channels == 1 else ("RGB", "RGB")
    yield "## How to use it"
    yield "In this folder, with a picture of your own:"
    yield WITH_TIMM.replace("MODE", colours[0])
    if "onnx" in model.differences:
        yield "With onnxruntime and no torch, for `images` that are prepared in the same way:"
        yield WITH_ONNX
    yield "From a checkout of dacsm, for files and folders: `dacsm predict FOLDER picture.png`."
    yield _paragraph(
        f"The network takes images (B, {channels}, {size}, {size}): {colours[1]}, squashed to {squashed} × {squashed} "
        f"pixels whatever their shape (bilinear), cropped to the middle {size} × {size}, scaled to 0..1, less the mean "
        f"{images['mean']}, over the deviation {images['std']}. It gives logits (B, {model.classes})."
    )


def _data(model: Exported) -> Iterator[str]:
    yield "## Data and licence"
    yield _paragraph(
        f"{model.dataset.title}. Licence of the data: {model.dataset.licence}. The file LICENSE repeats it. Whether it "
        "binds weights that were learned from the data is for you to judge."
    )
    yield _paragraph(f"Cite: {model.dataset.citation}.")


def _accuracy(model: Exported) -> Iterator[str]:
    selected, (_source, target) = model.metrics["selected"], model.domains
    how = "is the last one" if selected["selection"] == LAST else f"was selected by `{selected['selection']}`"
    yield "## Accuracy on the target"
    chosen = f"The epoch of these weights, {selected['epoch']}, {how}."
    if not model.measured:
        yield _paragraph(
            f"{chosen} The images of `{target}` have no labels, so that the accuracy on them is not known."
        )
        return
    yield _paragraph(
        f"{chosen} No label of the target was used to train or to select. The labels measure the result, on the "
        f"{model.metrics['images']:,} images of `{model.dataset.evaluation_domain(target)}`:"
    )
    rows: list[tuple[str, float | None]] = [(what, selected[key]) for key, what in MEASURES.items()]
    if model.classes <= MOST_CLASSES:
        rows += [(f"class {name}", recall) for name, recall in selected["per_class"].items()]
    yield _table(("measure", "percent"), [(what, "–" if value is None else f"{value:.2f}") for what, value in rows])
    if model.task in model.dataset.development_tasks:
        yield "This is a development task: methods and their settings were chosen by its target labels."
    yield _paragraph(
        f"Protocol: {model.dataset.protocol}. These are numbers of seed {model.seed} alone; another seed gives others."
    )


def _calibration(model: Exported) -> Iterator[str]:
    temperature, (source, target) = model.config["temperature"], model.domains
    yield "## Calibration"
    if temperature is None:
        yield _paragraph(
            "There is no temperature, since no source images were held out of training (`held_out: 0`). Probabilities "
            "are the plain softmax of the logits."
        )
    else:
        yield _paragraph(
            f"Temperature: **{temperature:g}**. Divide logits by it before softmax; no predicted class changes. It was "
            f"fitted, between {LEAST:g} and {MOST:g}, to held-out images of the source alone, without any image of the "
            "target; so their numbers after it are a little too good. "
            f"**It need not hold on the target**{_on_target(model)}."
        )
    if not model.calibration:
        return
    domains = {"source": f"`{source}`, held out", "target": f"`{target}`, measured afterwards with its labels"}
    yield _table(
        ("images", "number", "error before", "error after", "loss before", "loss after"),
        [
            (domains[domain], found.images, *map(_number, (*found.calibration_error, *found.negative_log_likelihood)))
            for domain, found in model.calibration.items()
        ],
    )
    yield _paragraph(
        f"Error is the expected calibration error in percent, with {BINS} bins. Loss is the mean negative "
        "log-likelihood in nats. Before is without the temperature, after with it (Guo et al. 2017, arXiv 1706.04599)."
    )


def _on_target(model: Exported) -> str:
    """What the temperature does to the target's calibration error, where that is known."""
    if "target" not in model.calibration:
        return ", whose calibration was not measured"
    before, after = model.calibration["target"].calibration_error
    if after is None or after == before:
        return ""
    return f", where the error {'falls' if after < before else 'rises'} from {_number(before)} to {_number(after)} %"


def _limits(model: Exported) -> Iterator[str]:
    yield "## Intended use and limits"
    yield _paragraph(
        f"For images like those of `{model.domains[1]}` that show one of the classes, and for research on domain "
        "adaptation. Every image gets one of the classes, even one that shows none of them. On other images nothing "
        "was measured. Do not use it for decisions about people."
    )


def _files(model: Exported) -> Iterator[str]:
    def compared(form: str, other: str) -> str:
        largest = f"{model.differences[form]:.1e}"
        return f"On {model.compared} target images its logits differ by at most {largest} from {other}."

    yield "## Files"
    yield _paragraph(
        "`model.safetensors` and `config.json` are a state dict with timm's names, and what timm builds its network "
        "from. Training had a batch norm between network and head; here it is folded into the head, which is exact but "
        f"for rounding. {compared('timm', 'those of the trained checkpoint')}"
    )
    if "onnx" in model.differences:
        yield _paragraph(
            "`model.onnx` is the same network, for any number of images. Normalisation, temperature and softmax are "
            f"not in it. {compared('onnx', 'those of PyTorch')}"
        )


def _made_from(model: Exported) -> Iterator[str]:
    yield "## Made from"
    yield "\n".join(f"- {what}: `{which}`" for what, which in model.made_from.items())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _paragraph(text: str) -> str:
    return fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)
