"""Runs of which each process tells what it came to; a program for `torchrun`, and functions for one process.

It is given a pickled list of arguments for `tell`.
"""

import os
import pickle
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from dacsm.config.project import Project
from dacsm.data.shards import ShardedImages
from dacsm.evaluation.predictions import predict
from dacsm.models.classifier import load_checkpoint
from dacsm.runtime import resume
from dacsm.runtime.device import choose_compute
from dacsm.runtime.resume import Resume
from dacsm.runtime.together import joined
from dacsm.stages.adapt import adapt
from dacsm.stages.pretrain import pretrain

TASK = "synthetic-optdigits"


class Dies(Exception):
    """Stands for the end of a process."""


class Watched(Resume):
    """Knows all that a run has after each epoch, counts steps, and may let the run die after some."""

    def __init__(self, place: Path | None = None, dies_after: int | None = None):
        super().__init__(place)
        self.dies_after, self.steps, self.epochs = dies_after, 0, []

    def end_step(self, epoch: int, step: int, steps: int) -> None:
        super().end_step(epoch, step, steps)
        self.steps += 1
        if self.steps == self.dies_after:
            raise Dies

    def end_epoch(self, epoch: int) -> None:
        parts = self.parts.items()
        self.epochs.append(deepcopy({name: part.state_dict() for name, part in parts if name != "progress"}))
        super().end_epoch(epoch)


def tell(folder: Path, project: Project, method: str | None, place: Path | None = None, dies_after: int | None = None):
    """Pretrain, or adapt by a method; what the run has after each epoch goes to a file of the process."""
    compute, run = choose_compute("cpu"), Watched(place, dies_after)
    try:
        if method is None:
            pretrain(project, "synthetic", 0, compute, run)
        else:
            adapt(project, method, TASK, 0, compute, run)
    except Dies:
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{method or 'pretrain'}-{os.environ.get('RANK', 'alone')}.pt"
    torch.save({"epochs": run.epochs, "steps": run.steps, "drawn": torch.rand(1)}, file)


def see(folder: Path, project: Project) -> dict[str, Any]:
    """What the source model predicts of a domain in batches of 16."""
    model = load_checkpoint(project.paths.pretrained("tiny", "synthetic", 0) / "model.safetensors")
    images = ShardedImages(project.paths.shards("tiny", "optdigits"))
    found = predict(model, images, choose_compute("cpu"), batch_size=16, keep="float16")
    return {"features": found.features, "logits": found.logits}


if __name__ == "__main__":
    torch.set_num_threads(1)
    resume.SAVE_EVERY = 0.0
    calls = pickle.loads(Path(sys.argv[1]).read_bytes())
    with joined(torch.device("cpu")):
        for arguments in calls:
            tell(*arguments)
        seen = see(*calls[0][:2])
        torch.save(seen, Path(sys.argv[1]).with_name(f"seen-{os.environ['RANK']}.pt"))
