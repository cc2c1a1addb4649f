"""What `benchmarks.gpu` measures: models, pairs and photographs, on a GPU or so small that a CPU does it."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.photographs import PROJECT, made_up_project
from dacsm.config.params import Model, load_params
from dacsm.config.project import Project
from dacsm.runtime.device import Compute, choose_compute

TINY = {"image_size": 32, "resize": 36, "patch_size": 8, "dim": 32, "depth": 3, "heads": 2}
METHODS = ("cdtrans", "dacsm")


@dataclass(frozen=True)
class Sizes:
    """What is measured, on a GPU; dry, it is so small that a CPU does it in seconds."""

    folder: Path  # for the made-up photographs and their runs
    dry: bool = False
    compute: Compute = field(init=False)

    def __post_init__(self) -> None:
        compute = choose_compute("cpu", 1) if self.dry else choose_compute("cuda")
        object.__setattr__(self, "compute", compute)
        if self.dry:
            torch.set_num_threads(1)

    @property
    def device(self) -> torch.device:
        return self.compute.device

    def model(self, size: str) -> Model:
        model = load_params(PROJECT / "params.yaml").pretrain["visda"].model
        name = f"deit_{size}_patch16_224"
        return model.model_copy(update={"weights": "none", "name": name, **(TINY if self.dry else {})})

    def pairs(self, pairs: int) -> int:
        return 4 if self.dry else pairs

    @property
    def project(self) -> Project:
        """Made-up photographs, DeiT-B, and recipes of which an epoch has 70 steps of 64 pairs."""
        params = load_params(PROJECT / "params.yaml")
        fast = {"name": "adamw", "learning_rate": 0.0003, "schedule": "cosine", "warmup_epochs": 0.5}
        optimiser = params.pretrain["visda"].optimiser.model_copy(update=fast)
        short = {"epochs": 2, "batch_size": self.pairs(64), "threads": 1 if self.dry else 8}
        return made_up_project(
            self.folder / "made_up",
            48 if self.dry else 3200,
            workers=0 if self.dry else 8,
            model=dict(self.model("base")),
            pretrain={**short, "optimiser": optimiser},
            adapt={**short, "refresh_epochs": 1, "max_pairs": 70 * self.pairs(64) // (10 if self.dry else 1)},
        )


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
