"""A dataset of a few digits a class, its shards, and settings for a model that trains in seconds."""

import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from dacsm.runtime.processor import OF_AVX2, VARIABLES, hold_libraries

hold_libraries()  # before torch is loaded, as the command line does
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models are so small that threads would only wait for each other
# Commands that tests interrupt would else ignore it where a script started the tests in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import yaml
from hypothesis import settings
from tiny_project import ProjectFolder, built_project
from warm_start import server

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params, parse_params
from dacsm.config.paths import Paths
from dacsm.config.presets import Presets
from dacsm.config.project import Project
from dacsm.stages.download import download
from dacsm.stages.shard import shard

settings.register_profile("dacsm", deadline=None)  # a busy machine is slow, and no property fails for that
settings.load_profile("dacsm")

WORKER = "PYTEST_XDIST_WORKER" in os.environ  # of several that run the tests
PER_CLASS = 6
PROJECT = Path(__file__).parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main() -> Iterator[None]:
    """One server for the commands of all tests, those of the workers too."""
    with nullcontext() if WORKER else server(("PATH", *VARIABLES, *OF_AVX2)):
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, so that no worker is left alone with one of them at the end."""
    marks: dict[Path, set[str]] = defaultdict(set)
    for item in items:
        marks[item.path] |= {mark.name for mark in item.iter_markers()}
    items.sort(key=lambda item: [mark not in marks[item.path] for mark in ("long", "slow")])


@pytest.fixture(scope="session")
def tiny_dataset() -> DatasetSpec:
    """The digits, with six images a class in each domain, as the dataset `tiny`."""
    content = yaml.safe_load((PROJECT / "workflow/datasets/digits.yaml").read_text(encoding="utf-8"))
    content["name"] = "tiny"
    for domain in content["domains"].values():
        domain["images"] = 10 * PER_CLASS
        domain["options"]["per_class"] = PER_CLASS
        del domain["options"]["pixels"]  # those of all images
    return DatasetSpec.model_validate(content)


@pytest.fixture(scope="session")
def tiny_params() -> Params:
    """The project's params with settings for `tiny`: those of digits, but a small model, short training, and native
    arithmetic, since portable arithmetic needs a process of its own.
    """
    content = Presets("params.yaml").resolve(yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8")))
    for recipes in (content["experiments"], content["shard"], content["pretrain"], content["adapt"]["recipes"]):
        recipes["tiny"] = yaml.safe_load(yaml.safe_dump(recipes["digits"]))
    content["experiments"]["tiny"]["seeds"] = [0, 1]
    content["shard"]["tiny"]["images_per_shard"] = 25
    pretrain, adapt = content["pretrain"]["tiny"], content["adapt"]["recipes"]["tiny"]
    pretrain["model"] |= {"dim": 32, "depth": 2, "heads": 2}
    pretrain |= {"epochs": 2, "batch_size": 16}
    adapt |= {"epochs": 2, "batch_size": 16, "refresh_epochs": 1, "max_pairs": 48}
    pretrain["arithmetic"] = adapt["arithmetic"] = "native"
    content |= {"datasets": ["tiny"], "tables": {"tiny": "tiny"}}
    return parse_params(content)


@pytest.fixture(scope="session")
def portable_params(tiny_params: Params) -> Params:
    """The same in portable arithmetic, as digits has it: for commands."""
    content = tiny_params.model_dump(mode="json")
    for recipes in (content["pretrain"], content["adapt"]["recipes"]):
        recipes["tiny"]["arithmetic"] = "portable"
    return parse_params(content)


@pytest.fixture(scope="session")
def tiny_paths(tiny_dataset: DatasetSpec, tiny_params: Params, tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A root that holds the shards of tiny's three domains; a test that changes them copies the folder first."""
    paths = Paths(tmp_path_factory.mktemp("tiny"))
    for archive in tiny_dataset.archives:
        download(Project(None, tiny_dataset, paths), archive)
    for domain in tiny_dataset.domains:
        shard(Project(tiny_params, tiny_dataset, paths), domain)
    return paths


@pytest.fixture(scope="session")
def built(
    tmp_path_factory: pytest.TempPathFactory, tiny_dataset: DatasetSpec, portable_params: Params
) -> ProjectFolder:
    """The tiny project, built, recorded and pushed; whoever changes it copies it first."""
    folder = tmp_path_factory.getbasetemp()
    if WORKER:  # the workers' folders lie in a common one
        folder = folder.parent
    return built_project(folder / "built", tiny_dataset, portable_params)
