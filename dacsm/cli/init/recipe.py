"""What is proposed for the domains that were chosen, what it takes, and whether it is wanted."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dacsm.cli.init.questions import Ask
from dacsm.config.insertion import with_entries
from dacsm.config.params import Params, parse_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.config.proposal import Facts, Proposal, described, kind_of
from dacsm.ledger.plan import device_name, disk_of, time_of
from dacsm.ledger.runs import runs_of
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.wording import in_bytes, in_hours

SEEDS = (0, 1, 2)
MOST_HOURS = 12.0  # for which three seeds are proposed; else one is


def settle(
    proposal: Proposal, domains: Sequence[Facts], compute: Compute, content: dict[str, Any], ask: Ask
) -> Proposal | None:
    """Show what is proposed, and what it takes; None where it is not wanted."""
    facts = described(proposal.name, proposal.title, domains, proposal.channels)
    project = Project(_params(proposal, content), facts, Paths(Path(str(content.get("root", ".")))))
    experiment, model = project.params.experiment(proposal.name), project.params.pretrain[proposal.name].model
    labels = "with labels, for accuracies alone" if proposal.target.counts else "unlabelled: predictions, no accuracies"
    print("\nProposed:")
    for source in proposal.sources:
        print(f"  source   {source.name}: {source.images:,} images, {len(source.counts)} classes")
    print(f"  target   {proposal.target.name}: {proposal.target.images:,} images, {labels}")
    print(f"  recipe   {kind_of(proposal.pixels, proposal.gpu)}: {_presets(proposal)}")
    print(f"  model    {model.name} at {model.image_size} pixels, {_start(model.weights)}")
    print(f"  methods  {', '.join(experiment.methods)}", flush=True)  # measuring takes some seconds
    runs = runs_of(project, experiment)
    of_one = [run for run in runs if run.arguments.get("seed", SEEDS[0]) == SEEDS[0]]
    try:
        one = time_of(project, of_one, compute, rough=True).total
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{device_name(compute)} has too little free memory for {model.name}; nothing was written: take a "
            "recipe for a CPU with --device cpu, and edit it in params.yaml."
        ) from error
    every = one * len(SEEDS)
    print(
        f"  time     {in_hours(one)} for one seed, {in_hours(every)} for {len(SEEDS)}, roughly and at most, on "
        f"{device_name(compute)} if it does nothing else"
    )
    print(f"  disk     {in_bytes(sum(disk_of(project, runs).values()))} for {len(SEEDS)} seeds")
    default = str(len(SEEDS) if every <= MOST_HOURS else 1)
    counts = [str(count) for count in range(1, len(SEEDS) + 1)]
    (answer,) = ask("Write these settings, for how many seeds? n writes nothing.", [*counts, "n"], default)
    if answer == "n":
        return None
    print(f"  seeds    {answer}")
    return replace(proposal, seeds=SEEDS[: int(answer)])


def _start(weights: str) -> str:
    if weights == "none":
        return "trained from nothing"
    return f"from {weights}" + (", which timm downloads; --weights takes a file" if weights.startswith("timm:") else "")


def _presets(proposal: Proposal) -> str:
    entries = proposal.entries("")
    return ", ".join(str(entry.value["preset"]) for entry in entries if "preset" in entry.value)


def _params(proposal: Proposal, content: dict[str, Any]) -> Params:
    """The settings with those that are proposed, as far as they are of this dataset."""
    name = proposal.name
    whole = with_entries(content, proposal.entries(""))
    alone = {"experiments": {name: whole["experiments"][name]}, "datasets": [name], "tables": {name: name}}
    return parse_params({**whole, **alone, "folders": {}})
