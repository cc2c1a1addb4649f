"""What a source model's tokens tell of the domain, layer by layer, and how far a translation of style moves them.

    python -m benchmarks.style pacs_160 photo-art_painting --seed 0

A linear probe tells source images from target images, half of them for its training: from the style of an image's patch
tokens (channel means and deviations), from single patch tokens whose style was taken out (content), and from the class
token. Then source images are restyled towards their pairs, as DACSM trains on them: how many of them does the probe of
the class token still take for source images, and how many keep their class? Last, the mix stream: on pairs of nearest
neighbours, how often it predicts the class of the source image, and, on a development task, that of the target image.
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tabulate import tabulate
from torch import Tensor

from dacsm.adaptation.pairing import centre_labels, nearest_over_scales
from dacsm.config.kinds.cdtrans import Settings
from dacsm.config.project import PARAMS_FILE, open_project
from dacsm.data.seeding import numpy_generator, torch_generator
from dacsm.data.shards import ShardedImages, read_labels
from dacsm.data.transforms import centre_view, normalise
from dacsm.evaluation.predictions import predict
from dacsm.methods.cdtrans.parts.noise import BeneficialNoise, style_of
from dacsm.models.classifier import Classifier, load_checkpoint
from dacsm.models.three_stream import stream_tokens
from dacsm.runtime.device import choose_compute

BATCH = 50  # pairs at a time
TOKENS = 4  # patch tokens of an image that stand for its content
RESTYLED = {"kind": "cdtrans", "source_style": {"weight": 1.0, "layers": 0.5, "ramp": 0}}
TRANSLATED = {"kind": "cdtrans", "style": {"weight": 1.0, "spread": 0.5}, "noise": {"weight": 1.0, "learned": False}}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.style", description=__doc__.split("\n")[0])
    parser.add_argument("dataset")
    parser.add_argument("task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=600, help="of each domain")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    project, compute = open_project(PARAMS_FILE, dataset=options.dataset), choose_compute(options.device, workers=0)
    if options.task not in project.dataset.development_tasks:
        sys.exit(f"style: {options.task} is no development task of {options.dataset}, and this reads target labels.")
    domains = project.dataset.split_task(options.task)
    folder = project.paths.pretrained(options.dataset, domains[0], options.seed)
    classifier = load_checkpoint(folder / "model.safetensors", compute.device).eval()
    images = [ShardedImages(project.paths.shards(options.dataset, domain)) for domain in domains]
    labels = [read_labels(project.paths.shards(options.dataset, domain)) for domain in domains]
    seen = [predict(classifier, of, compute) for of in images]
    nearest, _ = nearest_over_scales(seen[0].features, [seen[1].features])
    chosen = numpy_generator("style").permutation(len(images[0]))[: options.images]
    pairs = np.stack([chosen, nearest.numpy()[chosen]])  # (2, P): source images and their nearest target images
    plain = _forward(classifier, images, pairs, None)
    restyled = _forward(classifier, images, pairs, RESTYLED)
    translated = _forward(classifier, images, pairs, TRANSLATED)
    depth = len(classifier.backbone.blocks)
    rows = []
    for layer in range(depth + 1):
        source, target = plain["source"][layer], plain["target"][layer]
        accuracies = [_probe(_style(source), _style(target)), _probe(_content(source), _content(target))]
        probe = _fitted(source[:, 0], target[:, 0])
        accuracies.append(_accuracy(probe, source[:, 0], target[:, 0]))
        taken = 100 * (probe.predict(_half(restyled["source"][layer][:, 0])) == 1).mean()
        rows.append([layer or "embedded", *(f"{100 * one:.0f}" for one in accuracies), f"{taken:.0f}"])
    heads = ("after layer", "style, %", "content, %", "class token, %", "restyled source taken for target, %")
    print(tabulate(rows, heads, tablefmt="pipe", disable_numparse=True))
    pseudo = centre_labels(seen[1].features, seen[1].logits).numpy()[pairs[1]]
    of_source, of_target = labels[0][pairs[0]], labels[1][pairs[1]]
    agree = pseudo == of_source
    rows = [("source images right, plain", plain["logits"][0], of_source, slice(None))]
    rows += [("source images right, restyled", restyled["logits"][0], of_source, slice(None))]
    for name, streams in (("plain", plain), ("with style and noise", translated)):
        rows.append((f"mix stream says the source's class, {name}", streams["logits"][1], of_source, agree))
        rows.append((f"mix stream says the target's class, {name}", streams["logits"][1], of_target, agree))
    rows.append(("target stream says the target's class", plain["logits"][2], of_target, agree))
    print()
    print(tabulate([(w, f"{100 * (p[a].argmax(1) == y[a]).mean():.1f} %") for w, p, y, a in rows], tablefmt="pipe"))
    print(f"\npairs whose labels agree: {100 * agree.mean():.1f} % of {len(agree)}; ", end="")
    print(f"of these the same class in truth: {100 * (of_source == of_target)[agree].mean():.1f} %")
    return 0


@torch.inference_mode()
def _forward(
    classifier: Classifier, images: list[ShardedImages], pairs: np.ndarray, settings: dict | None
) -> dict[str, list]:
    """Tokens of both domains after each layer, (P, N, D) each, and the three streams' logits, (P, K) each."""
    noise = None
    device = next(classifier.parameters()).device
    if settings is not None:
        noise = BeneficialNoise(classifier, Settings(**settings), torch_generator(device, "style")).to(device)
        noise.progress = 1.0
    found: dict[str, list] = {"source": [], "target": [], "logits": []}
    for views in _views(classifier, images, pairs, device):
        layers = [tokens.chunk(3) for tokens in stream_tokens(classifier, *views, noise)]
        found["source"].append([source.cpu() for source, _target, _mix in layers])
        found["target"].append([target.cpu() for _source, target, _mix in layers])
        source, target, mix = (classifier.backbone.norm(tokens)[:, 0] for tokens in layers[-1])
        found["logits"].append([classifier.classify(classifier.neck(of)).cpu() for of in (source, mix, target)])
    return {name: [torch.cat(parts).numpy() for parts in zip(*batches)] for name, batches in found.items()}  # noqa: B905


def _views(
    classifier: Classifier, images: list[ShardedImages], pairs: np.ndarray, device: torch.device
) -> Iterator[list[Tensor]]:
    model = classifier.description.model
    for start in range(0, pairs.shape[1], BATCH):
        batch = pairs[:, start : start + BATCH]
        views = (
            torch.stack([centre_view(of[int(i)], model) for i in ids]) for of, ids in zip(images, batch, strict=True)
        )
        yield [normalise(view.to(device), model) for view in views]


def _style(tokens: np.ndarray) -> np.ndarray:
    """Channel means and deviations over the patches, (P, N, D) to (P, 2 D)."""
    return np.concatenate([part[:, 0].numpy() for part in style_of(torch.from_numpy(tokens))], axis=1)


def _content(tokens: np.ndarray) -> np.ndarray:
    """Some patch tokens of each image without its style, (P, N, D) to (P · TOKENS, D)."""
    mean, deviation = (part.numpy() for part in style_of(torch.from_numpy(tokens)))
    places = np.linspace(1, tokens.shape[1] - 1, TOKENS).round().astype(int)
    return ((tokens - mean) / deviation)[:, places].reshape(-1, tokens.shape[2])


def _half(rows: np.ndarray) -> np.ndarray:
    """The rows that no probe was trained on."""
    return rows[len(rows) // 2 :]


def _fitted(source: np.ndarray, target: np.ndarray) -> LogisticRegression:
    """A probe that says 0 for the source and 1 for the target, from the first half of each."""
    rows = [of[: len(of) // 2] for of in (source, target)]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    return probe.fit(np.concatenate(rows), np.repeat([0, 1], [len(rows[0]), len(rows[1])]))


def _accuracy(probe: LogisticRegression, source: np.ndarray, target: np.ndarray) -> float:
    return float(np.mean([(probe.predict(_half(of)) == label).mean() for label, of in enumerate((source, target))]))


def _probe(source: np.ndarray, target: np.ndarray) -> float:
    return _accuracy(_fitted(source, target), source, target)


if __name__ == "__main__":
    sys.exit(main())
