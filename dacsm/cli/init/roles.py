"""Which domain is the target, and which are the sources."""

from collections.abc import Sequence
from dataclasses import replace

from dacsm.cli.init.questions import Ask
from dacsm.config.proposal import FEWEST, choose_source, choose_target
from dacsm.data.raw.found import Domain
from dacsm.runtime.errors import InputError, printable
from dacsm.runtime.wording import listed


def choose_roles(
    domains: Sequence[Domain], sources: Sequence[str], target: Domain | None, ask: Ask
) -> tuple[list[Domain], Domain]:
    """The sources and the target, as far as they are not named already.

    Raises InputError where they are too few, or are not what they should be.
    """
    by_name = {domain.name: domain for domain in domains}
    named = [_source(name, domains) for name in sources]
    left = [domain.facts for domain in domains if domain.name not in {source.name for source in named}]
    if not left:
        raise InputError("--source names every domain, so that there is none to adapt to; leave one out.")
    if target is None:
        target = by_name[choose_target(left, source_is_among_them=not named).name]
        if target.group.labelled and len(left) > 1:
            words = [facts.name for facts in left]
            target = by_name[ask("Which domain is adapted to (the target)?", words, target.name)[0]]
    if target.name in {source.name for source in named}:
        raise InputError(f"{target.name} is the target, so that it cannot be a source; leave out that --source.")
    others = [domain.facts for domain in domains if domain.group.labelled and domain.name != target.name]
    if not others:
        raise InputError(f"{target.name} is the only domain with classes, and cannot be the target; name another.")
    if not named:
        names = [choose_source(others, target.facts).name]
        if len(others) > 1:
            words = [facts.name for facts in others]
            names = ask("Which domain is learnt from (the source)?", words, names[0], several=True)
        named = [by_name[name] for name in names]
    target = _comparable(target, named)
    for domain in (*named, target):
        _require_enough(domain, is_source=domain is not target)
    return named, target


def _source(name: str, domains: Sequence[Domain]) -> Domain:
    """The labelled domain of that name."""
    found = next((domain for domain in domains if domain.is_called(name)), None)
    if found is None or not found.group.labelled:
        names = ", ".join(domain.name for domain in domains if domain.group.labelled)
        raise InputError(f"--source is {name!r}, which is no domain with classes; name one of {names}.")
    return found


def _comparable(target: Domain, sources: Sequence[Domain]) -> Domain:
    """The target; without its classes where none is a class of a source, so that no accuracy could be measured."""
    known = {name for source in sources for name in source.group.classes}
    unknown = sorted(target.group.classes.keys() - known)
    if not unknown:
        return target
    if len(unknown) == len(target.group.classes):
        print(f"- no class of {target.name} is one of the source: it is taken as unlabelled")
        return replace(target, group=target.group.unlabelled())
    shown = printable(listed(unknown, 5))
    print(f"- no source has {shown}, so that no image of {target.name} will be recognised as such")
    return target


def _require_enough(domain: Domain, is_source: bool) -> None:
    if (count := len(domain.group.images)) < FEWEST:
        raise InputError(
            f"{domain.name} has {count} images, expected at least {FEWEST}, and better 20 of each class; add some."
        )
    if is_source and len(domain.group.classes) < 2:
        raise InputError(
            f"{domain.name} has one class, {next(iter(domain.group.classes))}, expected at least two in a source; add "
            "one, or choose another source."
        )
