"""`dacsm init`: from a folder of images to settings in params.yaml, with at most three questions."""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dacsm.cli.init.found import show_found
from dacsm.cli.init.questions import ask, take
from dacsm.cli.init.recipe import SEEDS, settle
from dacsm.cli.init.roles import choose_roles
from dacsm.config.datasets import dataset_names
from dacsm.config.folders import read_folders
from dacsm.config.insertion import insert, inserted
from dacsm.config.naming import valid_name
from dacsm.config.paths import Paths
from dacsm.config.proposal import Pixels, Proposal
from dacsm.config.yaml_file import read_yaml
from dacsm.data.raw.arrange import arrange, lies_so, planned
from dacsm.data.raw.collection import Collection, opened
from dacsm.data.raw.describe import describe_folders
from dacsm.data.raw.found import LAYOUT, Domain, domains_of, in_one_spelling, title_of
from dacsm.data.raw.survey import Sample, joined
from dacsm.runtime.device import choose_compute, cores
from dacsm.runtime.errors import InputError, printable

RESULT = "results/{name}/report.html"  # what is made in the end: a page with the table


def init(args: argparse.Namespace) -> None:
    """Look at images, propose settings, ask, and write them; raises InputError where that cannot be done."""
    content = read_yaml(args.params)
    if not isinstance(content, dict):
        raise InputError(f"{args.params} holds no settings; run from the project's folder, or name the file.")
    name, weights = _name(args.name, args.path), _weights(args.weights)
    if _is_there(name, content, args.params):
        return
    raw = Paths(Path(str(content.get("root", ".")))).raw(name)
    asking = ask if sys.stdin.isatty() and not args.yes else take
    with ExitStack() as stack:
        collections, domains, asked, outside = _open(args.path, args.target, stack, raw.parent)
        domains, spelt = in_one_spelling(domains)
        samples = show_found(domains, collections, outside, spelt)
        named = next((domain for domain in domains if domain.name == asked), None)
        sources, target = choose_roles(domains, args.source or (), named, asking)
        domains = _used(domains, sources, target)
        plan = planned({domain.name: (domain.collection, domain.group) for domain in domains})
        in_place = lies_so(plan, collections[0])
        compute = choose_compute(args.device)
        proposal = Proposal(
            name=name,
            path=str(args.path if in_place else raw / "images"),
            title=args.name or re.sub(r"[\x00-\x1f\x7f|]", " ", title_of(args.path)).strip()[:200] or name,
            sources=tuple(source.facts for source in sources),
            target=target.facts,
            pixels=_pixels([samples[domain.name] for domain in (*sources, target)]),
            gpu=compute.device.type == "cuda",
            seeds=SEEDS,
            weights=weights,
        )
        if asking is take:
            print("\nNobody is asked: --target and --source choose otherwise, and params.yaml can be edited.")
        chosen = settle(proposal, [domain.facts for domain in domains], compute, content, asking)
        if chosen is None:
            print("Nothing was written.")
            return
        entries = chosen.entries(f"dacsm {shlex.join(_words(args))}")
        inserted(args.params, entries)  # what is wrong with it is found before anything is unpacked
        if not in_place:
            print(f"{raw / 'images'} has the images as {LAYOUT}: {_made_of(collections)}.", flush=True)
            if damaged := arrange(plan, raw / "images"):
                print(f"- {damaged:,} that are damaged in their archive are left out")
    alone = {key: content[key] for key in ("root",) if key in content}
    describe_folders({**alone, "folders": {name: dict(entries[0].value)}}, args.params)
    insert(args.params, entries)
    keys = ", ".join(".".join(entry.inside) for entry in entries)
    print(f"{args.params} now has {name} under {keys}. The table and its report:\n\n    {_next(name)}")


def _open(
    path: Path, target: str | None, stack: ExitStack, scratch: Path
) -> tuple[list[Collection], list[Domain], str | None, list[str]]:
    """The folders or archives that were named, their domains, which is the target, and the images in no domain."""
    collections = [stack.enter_context(opened(path, scratch))]
    if target is None:
        domains, outside = domains_of(collections[0])
        return collections, domains, None, outside
    try:
        domains, outside = domains_of(collections[0])
    except InputError:
        domains, outside = [], []  # with the target they may be enough
    if found := next((domain.name for domain in domains if domain.is_called(target)), None):
        return collections, domains, found, outside
    if not Path(target).exists():
        names = ", ".join(domain.name for domain in domains) or "which has none alone"
        raise InputError(
            f"--target is {target!r}, which is no domain of {path} ({names}), and no folder or archive; correct it."
        )
    collections.append(stack.enter_context(opened(Path(target), scratch)))
    domains, outside = domains_of(*collections)
    return collections, domains, domains[-1].name, outside


def _used(domains: Sequence[Domain], sources: Sequence[Domain], target: Domain) -> list[Domain]:
    """The domains that the dataset has: the sources, the target, and others that have a class of the sources."""
    known = {name for source in sources for name in source.group.classes}
    names = {domain.name for domain in (*sources, target)}
    used = []
    for domain in domains:
        if domain.name in names or known & domain.group.classes.keys():
            used.append(target if domain.name == target.name else domain)
        else:
            print(f"- {domain.name} is left out: it has no class of the source")
    return used


def _next(name: str) -> str:
    return f"snakemake --cores {cores()} {RESULT.format(name=name)}"


def _words(args: argparse.Namespace) -> list[str]:
    """The command line as it was meant, for a comment."""
    words = ["init", str(args.path)]
    for option, values in (("--target", [args.target]), ("--source", args.source or ()), ("--name", [args.name])):
        words += [word for value in values if value for word in (option, value)]
    return [printable(word) for word in words]


def _made_of(collections: Sequence[Collection]) -> str:
    kinds = {"unpacked" if one.packed else "links to where they lie" for one in collections}
    return " and ".join(sorted(kinds))


def _name(asked: str | None, path: Path) -> str:
    if asked and asked != valid_name(asked, "images"):
        raise InputError(
            f"--name is {asked!r}, but it should be up to 40 letters, digits or single _, a letter first; correct it."
        )
    return asked or valid_name(title_of(path), "images")


def _weights(file: str | None) -> str | None:
    if file and not file.startswith("timm:") and file != "none" and not Path(file).expanduser().is_file():
        raise InputError(f"--weights is {file!r}, which is no file; name one, timm:<model name>, or none.")
    return file


def _is_there(name: str, content: dict[str, Any], file: Path) -> bool:
    """Whether the settings have that folder, which is said; raises InputError where the name is another dataset's."""
    known = read_folders(content, file)
    if name in known:
        print(f"{file} has folders.{name} already, of {known[name].path}, and nothing was changed. Go on with\n")
        print(f"    {_next(name)}\n\nor give these images another name with --name.")
        return True
    places = {key: content.get(key) for key in ("experiments", "shard", "pretrain", "resources")}
    taken = next((key for key, value in places.items() if isinstance(value, dict) and name in value), None)
    if taken or name in dataset_names():
        where = f"{taken} in {file}" if taken else f"workflow/datasets/{name}.yaml"
        raise InputError(f"the name {name!r} is taken by {where}; choose another with --name.")
    return False


def _pixels(samples: Sequence[Sample]) -> Pixels:
    both = joined(samples)
    return Pixels(both.side, both.grey == len(both.sizes), *both.colours())
