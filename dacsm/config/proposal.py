"""From what a folder of images holds to settings for it: source and target, presets, entries of params.yaml."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dacsm.config import SOURCE_ONLY
from dacsm.config.datasets import DatasetSpec
from dacsm.config.folders import Folder, domain_facts, folder_facts
from dacsm.config.insertion import Entry
from dacsm.config.presets import Presets
from dacsm.config.validation import validate
from dacsm.runtime.errors import InputError

SMALL = 64  # pixels: up to here a model of small images is trained from nothing; above, one of photographs goes on
METHODS = (SOURCE_ONLY, "cdtrans", "dacsm")
STEPS = 300  # that a recipe for a CPU should take at least; with few images there are more epochs, up to MOST_EPOCHS
MOST_EPOCHS = 40
FEWEST = 8  # images of a source or a target: fewer make no batch
NEAR = 0.1  # of a preset's mean and deviation, which are kept where the images' own are as near as that
TARGET_NAMES, SOURCE_NAMES = ("target", "test", "validation"), ("source", "train", "training")


@dataclass(frozen=True)
class Facts:
    """A domain: its name, and its images; by class, where they have labels."""

    name: str
    images: int
    counts: Mapping[str, int]  # empty: it is unlabelled


@dataclass(frozen=True)
class Pixels:
    """What the images are like that were looked at."""

    side: float  # the median
    grey: bool  # all of them
    mean: tuple[float, ...]  # of red, green and blue in 0..1
    std: tuple[float, ...]


def choose_target(domains: Sequence[Facts], source_is_among_them: bool) -> Facts:
    """The domain to adapt to: the largest without labels, or one with such a name, or the largest that is left."""
    ordered = _largest_first(domains)
    unlabelled = [domain for domain in ordered if not domain.counts]
    named = [domain for domain in ordered if domain.name.lower() in TARGET_NAMES]
    if source_is_among_them and len(ordered) > 1:
        ordered.remove(next((domain for domain in ordered if domain.name.lower() in SOURCE_NAMES), ordered[0]))
    return [*unlabelled, *named, *ordered][0]


def choose_source(domains: Sequence[Facts], target: Facts) -> Facts:
    """The domain to learn from: of those with labels the one with such a name, or the largest."""
    left = [domain for domain in _largest_first(domains) if domain.counts and domain.name != target.name]
    return next((domain for domain in left if domain.name.lower() in SOURCE_NAMES), left[0])


def _largest_first(domains: Sequence[Facts]) -> list[Facts]:
    return sorted(domains, key=lambda domain: -domain.images)


def described(name: str, title: str, domains: Sequence[Facts], channels: Literal[1, 3]) -> DatasetSpec:
    """The facts of the dataset that this would be, for a plan; raises InputError for classes that no table can have."""
    classes = sorted({label for domain in domains for label in domain.counts})

    facts = {domain.name: domain_facts(domain.name, domain.images, domain.counts, classes) for domain in domains}
    folder = Folder(path=name, title=title, channels=channels)
    content = folder_facts(name, folder, facts, classes, "transductive")
    try:
        return validate(DatasetSpec, content, f"folders.{name}")
    except InputError as error:  # what is there comes from the names of folders
        raise InputError(str(error).replace("change it there", "rename that folder")) from error


def kind_of(pixels: Pixels, gpu: bool) -> str:
    """What the images count as."""
    if pixels.side <= SMALL:
        return "small grey images" if pixels.grey else "small colour images"
    return "photographs, for a GPU" if gpu else "photographs, for a CPU"


@dataclass(frozen=True)
class Proposal:
    """A dataset, one experiment on it, and a recipe."""

    name: str
    path: str
    title: str
    sources: tuple[Facts, ...]
    target: Facts
    pixels: Pixels
    gpu: bool
    seeds: tuple[int, ...]
    weights: str | None = None

    @property
    def small(self) -> bool:
        return self.pixels.side <= SMALL

    @property
    def channels(self) -> Literal[1, 3]:
        return 1 if self.small and self.pixels.grey else 3

    @property
    def tasks(self) -> list[str]:
        return [f"{source.name}-{self.target.name}" for source in self.sources]

    def entries(self, written_by: str) -> list[Entry]:
        """The lines for params.yaml; raises InputError where weights are given for a model that takes none."""
        folder = {"path": self.path, "title": self.title, "channels": self.channels}
        experiment = {"tasks": self.tasks, "methods": list(METHODS), "seeds": list(self.seeds)}
        labels = "has labels, which only accuracies use" if self.target.counts else "has no labels"
        what = kind_of(self.pixels, self.gpu)
        shard, pretrain, adapt = self._recipes()
        found = [
            Entry(("folders",), self.name, folder, f"written by `{written_by}`"),
            Entry(("experiments",), self.name, experiment, f"the target, {self.target.name}, {labels}"),
            Entry(("shard",), self.name, shard, f"{what}, about {self.pixels.side:.0f} pixels wide and high"),
            Entry(("pretrain",), self.name, *pretrain),
            Entry(("adapt", "recipes"), self.name, *adapt),
        ]
        if self.gpu and not self.small:
            found.append(Entry(("resources",), self.name, {"preset": "one_gpu"}, ""))
        return found

    def _recipes(self) -> tuple[dict[str, Any], tuple[dict[str, Any], str], tuple[dict[str, Any], str]]:
        """Settings of shard; of pretrain and of adapt, each with a comment."""
        pretrain: dict[str, Any]
        if self.small:
            if self.weights:
                raise InputError("--weights is for photographs; the model for small images is trained from nothing.")
            side = 28 if self.pixels.side <= 40 else 56
            shard = {"image_size": side, "encoding": "png", "images_per_shard": 1000}
            pretrain = {"preset": "small_images_pretrain"} | self._small_model(side)
            return shard, self._fitted("pretrain", pretrain), self._fitted("adapt", {"preset": "small_images_adapt"})
        weights = {"weights": self.weights} if self.weights else {}
        if self.gpu:
            pretrain = {"preset": "cdtrans_pretrain", "model": {"preset": "deit_base", **weights}}
            pretrain, _why = self._fitted("pretrain", pretrain, steps=0)
            adapt = self._fitted("adapt", {"preset": "cdtrans_adapt"}, steps=0)
            return {"preset": "photographs_256"}, (pretrain, "deit_small is the smaller backbone"), adapt
        pretrain = {"preset": "photographs_small_pretrain"} | ({"model": weights} if weights else {})
        adapt = self._fitted("adapt", {"preset": "photographs_small_adapt"})
        return {"preset": "photographs_small"}, self._fitted("pretrain", pretrain), adapt

    def _small_model(self, side: int) -> dict[str, Any]:
        """What differs from the preset, which is for white digits on black."""
        preset = Presets("params.yaml").resolve({"preset": "small_images_pretrain"})["model"]
        model: dict[str, Any] = {"image_size": side, "resize": side} if side != preset["image_size"] else {}
        mean, std = self.pixels.mean[: self.channels], self.pixels.std[: self.channels]
        if self.channels != preset["channels"]:
            model["channels"] = self.channels
        if self.channels != 1 or max(abs(mean[0] - preset["mean"][0]), abs(std[0] - preset["std"][0])) > NEAR:
            model |= {"mean": [round(value, 2) for value in mean], "std": [round(value, 2) for value in std]}
        return {"model": model} if model else {}

    def _fitted(self, stage: str, recipe: dict[str, Any], steps: int = STEPS) -> tuple[dict[str, Any], str]:
        """A recipe that so few images can be trained by: a smaller batch, and more epochs; and what to say of it."""
        preset = Presets("params.yaml").resolve(recipe)
        fewest = min(source.images for source in self.sources)
        count = fewest - round(fewest * preset.get("held_out", 0))
        if stage == "adapt":
            count += self.target.images
            if preset["max_pairs"]:
                count = min(count, preset["max_pairs"])
                steps = min(steps, preset["epochs"] * math.ceil(preset["max_pairs"] / preset["batch_size"]))
        batch = min(preset["batch_size"], count)
        epochs = min(math.ceil(steps / math.ceil(count / batch)), MOST_EPOCHS)
        fitted = {"batch_size": batch} if batch < preset["batch_size"] else {}
        fitted |= {"epochs": epochs} if epochs > preset["epochs"] else {}
        what = "images" if stage == "pretrain" else "pairs"
        why = {"batch_size": "a smaller batch", "epochs": "more epochs"}
        changed = " and ".join(why[key] for key in fitted)
        return recipe | fitted, f"with about {count:,} {what} an epoch, {changed} than in the preset" if fitted else ""
