"""The only reader of params.yaml: typed, checked, and without hidden defaults for anything that changes a number."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dacsm.config import SOURCE_ONLY
from dacsm.config.datasets import DatasetSpec
from dacsm.config.experiments import Experiment, check_experiments, check_tables, load_dataset_of, with_all_tasks
from dacsm.config.folders import Folder, require_described
from dacsm.config.kinds import MethodSettings, settings_of_any_kind
from dacsm.config.presets import Presets
from dacsm.config.validation import Fraction, Frozen, Name, UserPath, Weight, require_known, text_of, validate
from dacsm.config.yaml_file import read_yaml
from dacsm.runtime.errors import InputError
from dacsm.runtime.workers import MOST_WORKERS

DEFAULT = "default"
RECIPES = {"shard": "shard", "pretrain": "pretrain", "adapt": "adapt.recipes"}  # where params.yaml has each

Precision = Literal["float32", "bfloat16"]
Pixels = Annotated[int, Field(ge=1, le=4096)]
Url = text_of(r"^(https?|s3|file)://\S+$", "an address that begins with https://, http://, s3:// or file://")
Validator = Literal["infomax", "entropy", "bnm", "snd", "class_ami", "source_accuracy", "last"]


class Shard(Frozen):
    """How a dataset's images are stored."""

    image_size: Pixels = Field(description="pixels; images are resized once to this square")
    encoding: Literal["png", "jpeg"] = Field(description="png loses nothing; jpeg is quality 95, without subsampling")
    images_per_shard: int = Field(ge=1, le=1_000_000, description="a shard is one tar file")
    url: Url | None = Field(  # type: ignore[valid-type]  # made by text_of
        None,
        description="where shards lie already, a folder for each domain; null: they are made from the archives",
    )


class Model(Frozen):
    """A timm network by name, and the head of CDTrans; of a plain Vision Transformer the shape may be changed."""

    name: str = Field(description="a timm model; methods of kind cdtrans ask for a plain Vision Transformer")
    weights: UserPath = Field(description="none, timm:<model name>, or the path of a local weights file")
    image_size: Pixels = Field(description="pixels; what the model sees")
    resize: Pixels = Field(description="pixels; images are squashed to this square before the crop to image_size")
    channels: Literal[1, 3] = Field(description="1: grey, 3: colour")
    mean: tuple[float, ...] = Field(description="per channel, subtracted from pixels in 0..1")
    std: tuple[PositiveFloat, ...] = Field(description="per channel, divides after the mean is subtracted")
    patch_size: PositiveInt | None = Field(
        description="pixels; null: as the name says. This and the next three are for plain Vision Transformers alone"
    )
    dim: Annotated[int, Field(ge=1, le=65_536)] | None = Field(description="width of a token")
    depth: Annotated[int, Field(ge=1, le=1000)] | None = Field(description="number of blocks")
    heads: PositiveInt | None = Field(description="attention heads of a block")
    drop_path: Fraction = Field(description="rate at the last block, rising linearly from 0")

    @model_validator(mode="after")
    def _consistent(self) -> "Model":
        if self.resize < self.image_size:
            raise ValueError(f"resize is {self.resize}, smaller than image_size {self.image_size}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std must have one number for each of the {self.channels} channels")
        if self.patch_size and self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.dim and self.heads and self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        return self


class Augment(Frozen):
    """The random changes to a training image; evaluation takes the centre crop."""

    flip: bool = Field(description="mirror half of the images")
    rotate: float = Field(ge=0, le=180, description="degrees, uniform in ±rotate")
    zoom: float = Field(ge=0, lt=1, description="scale, uniform in 1 ± zoom")
    shear: float = Field(ge=0, lt=1, description="horizontal shear, uniform in ±shear")
    shift: float = Field(ge=0, lt=1, description="both ways, uniform in ±shift of the side")


class Optimiser(Frozen):
    """An optimiser and its learning rate over the epochs."""

    name: Literal["sgd", "adamw"] = Field(description="sgd: momentum 0.9; both: double rate for biases, as CDTrans")
    learning_rate: float = Field(gt=0, le=100, description="at its peak; biases have twice as much")
    weight_decay: Weight = Field(description="of every parameter, biases and norms included, as in CDTrans")
    schedule: Literal["cdtrans", "cosine"] = Field(description="cdtrans: per epoch; cosine: per step, down to zero")
    warmup_epochs: float = Field(ge=0, le=100_000, description="linear, from almost nothing")
    clip_norm: PositiveFloat = Field(description="gradients are scaled down to this norm")


class Training(Frozen):
    """What pretraining and adaptation share."""

    epochs: int = Field(ge=1, le=100_000, description="passes over the training images, or over the pairs drawn")
    batch_size: int = Field(ge=2, le=1_000_000, description="images a step in pretraining, pairs a step in adaptation")
    optimiser: Optimiser
    augment: Augment
    precision: Precision = Field(description="of the matrix products; losses and BN neck are float32 always")
    threads: int = Field(ge=1, le=1024, description="CPU threads; they change the order of sums, so they are a setting")
    arithmetic: Literal["portable", "native"] = Field(
        description="on a CPU: portable gives the same bits on every x86-64 processor with AVX2, native is for speed"
    )
    compile: bool = Field(
        False, description="the blocks of a plain Vision Transformer are compiled for training, which changes roundings"
    )

    @model_validator(mode="after")
    def _portable(self) -> "Training":
        if self.arithmetic == "portable" and self.precision != "float32":
            raise ValueError(f"arithmetic is portable, but precision is {self.precision}; set float32, or native")
        if self.arithmetic == "portable" and self.compile:
            raise ValueError("arithmetic is portable, but compile is true, which is not; set false, or native")
        return self


class Pretrain(Training):
    """Source pretraining of one dataset."""

    model: Model
    label_smoothing: Fraction = Field(description="fraction of the target spread over all classes")
    held_out: Fraction = Field(description="fraction of the source kept out of training, for source accuracy")


class AdaptRecipe(Training):
    """Adaptation of one dataset, the same for every method."""

    refresh_epochs: PositiveInt = Field(description="pseudo labels and pairs are renewed every so many epochs")
    max_pairs: PositiveInt | None = Field(description="pairs an epoch, drawn anew each epoch; null takes all")
    features: Literal["float32", "float16"] = Field(
        description="number format in which the features for pseudo labels and pairs are kept"
    )
    averaging: Fraction = Field(
        description="decay of the weight average that is evaluated; 0 takes the weights as they are"
    )
    validator: Validator = Field(description="how the epoch is selected, without target labels")


class Adapt(Frozen):
    recipes: dict[Name, AdaptRecipe] = Field(description="settings of each dataset, the same for every method")
    methods: dict[Name, settings_of_any_kind()] = Field(  # type: ignore[valid-type]  # of the modules that are there
        description="each method's kind, and its settings"
    )

    @model_validator(mode="after")
    def _reserved(self) -> "Adapt":
        if SOURCE_ONLY in self.methods:
            raise ValueError(f"methods has {SOURCE_ONLY!r}, which is the pretrained model itself and takes no settings")
        return self


class Resources(Frozen):
    """What a job of a dataset needs of a machine; it changes no number."""

    memory_mb: PositiveInt = Field(description="of the stages that run a model")
    minutes: PositiveInt = Field(description="at most, for a cluster's time limit")
    gpus: int = Field(ge=0, le=1024, description="for each run of a model; training takes all of them")
    workers: int = Field(ge=0, le=MOST_WORKERS, description="processes that read or encode images; 0: the run itself")


class Rescale(Frozen):
    """At which sizes of the objects models are measured besides, for accuracy against scale."""

    scales: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        min_length=2, description="factors on the objects' size; 1 among them"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Rescale":
        if list(self.scales) != sorted(set(self.scales)):
            raise ValueError(f"scales is {list(self.scales)}, but it should rise")
        if 1 not in self.scales:
            raise ValueError(f"scales is {list(self.scales)}, without 1, to which the others are compared")
        return self


class Export(Frozen):
    """What `dacsm export` writes besides timm's weights and the model card."""

    onnx: bool = Field(True, description="model.onnx too, which needs the extra `onnx` of pyproject.toml")


class Params(Frozen):
    """All settings. See params.yaml for what each is for."""

    root: UserPath = Field(description="put before data/ and results/")
    datasets: tuple[Name, ...] = Field(min_length=1, description="whose data and runs dvc repro records")
    tables: dict[Name, Name] = Field(
        min_length=1, description="what plain snakemake and dvc repro make: experiments, each with its dataset"
    )
    folders: dict[Name, Folder] = Field({}, description="your own images, each folder a dataset of that name")
    experiments: dict[Name, Experiment] = Field(description="what each table holds")
    shard: dict[Name, Shard] = Field(description="how each dataset's images are stored")
    pretrain: dict[Name, Pretrain] = Field(description="source pretraining of each dataset")
    adapt: Adapt
    rescale: Rescale
    export: Export = Export()
    resources: dict[Name, Resources] = Field(description="what the jobs of a dataset need; default: of all others")

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        check_experiments(self.experiments, self._recipes)
        check_tables(self.tables, self.experiments, self.datasets)
        if DEFAULT not in self.resources:
            raise ValueError(f"resources has no {DEFAULT!r}, for the datasets that it does not name; add it")
        for name, experiment in self.experiments.items():
            for method in experiment.methods:
                require_known(f"experiments.{name}.methods", method, (SOURCE_ONLY, *self.adapt.methods))
        return self

    @property
    def _recipes(self) -> dict[str, dict[str, Any]]:
        return {"shard": self.shard, "pretrain": self.pretrain, RECIPES["adapt"]: self.adapt.recipes}

    def experiment(self, name: str) -> Experiment:
        """What a table holds; raises InputError where params.yaml has no such experiment."""
        if name not in self.experiments:
            raise InputError(
                f"params.yaml: experiments has no entry for {name!r}; it has {', '.join(self.experiments)}; name one "
                f"of these, or add experiments.{name}."
            )
        return self.experiments[name]

    def dataset_of(self, name: str) -> str:
        """The name of the dataset that an experiment is of; raises InputError as `experiment` does."""
        return self.experiment(name).dataset or name

    def load_dataset_of(self, name: str) -> DatasetSpec:
        """The facts of an experiment's dataset; raises InputError where they cannot be used, or lack its tasks."""
        return load_dataset_of(name, self.dataset_of(name), self.experiment(name).tasks)

    def experiments_of(self, dataset: str) -> tuple[str, ...]:
        """A dataset's experiments in `tables`, or all where none is there; raises InputError where it has none."""
        found = tuple(name for name in self.experiments if self.dataset_of(name) == dataset)
        if not found:
            raise InputError(f"params.yaml: experiments has no entry of the dataset {dataset!r}; add one.")
        return tuple(name for name in found if name in self.tables) or found

    def recipe(self, stage: Literal["shard", "pretrain", "adapt"], dataset: str) -> Any:
        """A stage's settings for a dataset; raises InputError where params.yaml has none."""
        key = RECIPES[stage]
        if dataset not in self._recipes[key]:
            raise InputError(f"params.yaml: {key} has no settings for {dataset!r}; add {key}.{dataset}.")
        return self._recipes[key][dataset]

    def resources_of(self, dataset: str) -> Resources:
        """What the jobs of a dataset need of a machine."""
        return self.resources.get(dataset, self.resources[DEFAULT])

    def adaptation(self, dataset: str, method: str) -> AdaptRecipe:
        """A dataset's recipe with a method's own changes; raises InputError where params.yaml lacks either."""
        recipe: AdaptRecipe = self.recipe("adapt", dataset)
        changes = self.method(method).recipe
        zoom = recipe.augment.zoom if changes.zoom is None else changes.zoom
        rate = changes.learning_rate * recipe.optimiser.learning_rate
        changed = {
            "epochs": max(1, round(changes.epochs * recipe.epochs)),
            "augment": recipe.augment.model_copy(update={"zoom": zoom}),
            "optimiser": recipe.optimiser.model_copy(update={"learning_rate": rate}),
        }
        return recipe.model_copy(update=changed)

    def method(self, name: str) -> MethodSettings:
        """The settings of a method; raises InputError where adapt.methods has no such entry."""
        if name not in self.adapt.methods:
            known = ", ".join(self.adapt.methods)
            raise InputError(
                f"params.yaml: adapt.methods has no {name!r}; it has {known}; add it, or name one of these."
            )
        return self.adapt.methods[name]


def load_params(path: Path) -> Params:
    """Read and check a params file; raises InputError for the first thing that cannot be used, naming its key."""
    return parse_params(read_yaml(path), path)


def parse_params(content: Any, name: str | Path = "params.yaml") -> Params:
    """Check params that were already read, as Snakemake does with its merged configuration.

    Presets are replaced by what they stand for, and `tasks: all` by the tasks: what follows sees plain settings. Raises
    InputError for the first thing that cannot be used, naming its key and the file that has it.
    """
    presets = Presets(name)
    resolved = presets.resolve(content)
    require_described(resolved, name)
    return validate(Params, with_all_tasks(resolved, name), presets.origin)
