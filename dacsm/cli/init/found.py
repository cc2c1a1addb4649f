"""What `dacsm init` says that it found."""

from collections.abc import Iterator, Sequence

from tabulate import tabulate

from dacsm.data.raw.collection import Collection
from dacsm.data.raw.found import Domain
from dacsm.data.raw.layout import is_image
from dacsm.data.raw.survey import SECONDS, Sample, doubles, kinds, look_at
from dacsm.runtime.errors import InputError, printable
from dacsm.runtime.wording import count_of, in_bytes, listed

MOST_NAMED = 5  # classes in a sentence
HEADER = ("domain", "images", "classes", "in a class", "width × height", "colours")


def show_found(
    domains: Sequence[Domain],
    collections: Sequence[Collection],
    outside: Sequence[str],
    spelt: dict[str, str],
) -> dict[str, Sample]:
    """Print what was found, and return the sample of each domain; raises InputError where none of one can be read."""
    classes = {name for domain in domains for name in domain.group.classes}
    count = sum(len(domain.group.images) for domain in domains)
    where = " and ".join(str(one.path) for one in collections)
    sums = count_of(count, "image"), count_of(len(domains), "domain"), count_of(len(classes), "class", "es")
    print(printable(f"{where}: {', '.join(sums)}"), flush=True)
    samples = {domain.name: look_at(domain.paths, domain.collection.read, SECONDS / len(domains)) for domain in domains}
    for domain in domains:
        if not samples[domain.name].sizes:
            path_, reason = samples[domain.name].unreadable[0]
            raise InputError(
                f"no image of {domain.name} that was looked at can be read, such as {path_} ({reason}); mend them."
            )
    rows = [HEADER, *(_row(domain, samples[domain.name]) for domain in domains)]
    for line in tabulate(rows, tablefmt="plain", disable_numparse=True).splitlines():
        print(printable(f"  {line}".rstrip()))
    looked_at = sum(sample.looked_at for sample in samples.values())
    print(f"Sizes and colours are of {looked_at:,} images drawn at random.")
    for line in _remarks(domains, collections, outside, spelt, samples):
        print(printable(f"- {line}"))
    return samples


def _row(domain: Domain, sample: Sample) -> tuple[str, ...]:
    counts = domain.group.counts
    balance = "unlabelled"
    if counts:
        fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        balance = f"{counts[fewest]:,} ({_short(fewest)}) to {counts[most]:,} ({_short(most)})"
        if counts[fewest] == counts[most]:
            balance = f"{counts[most]:,} each"
    sizes = [f"{width}×{height}" for width, height in sample.span()]
    size = sizes[0] if len(set(sizes)) == 1 else f"{sizes[0]} to {sizes[2]}, median {sizes[1]}"
    grey = sample.grey / len(sample.sizes)
    colour = "grey" if grey == 1 else "colour" if grey == 0 else f"colour, {grey:.0%} grey"
    return domain.name, f"{len(domain.group.images):,}", str(len(counts) or ""), balance, size, colour


def _remarks(
    domains: Sequence[Domain],
    collections: Sequence[Collection],
    outside: Sequence[str],
    spelt: dict[str, str],
    samples: dict[str, Sample],
) -> Iterator[str]:
    """What is out of the ordinary."""
    for domain in domains:
        if bad := samples[domain.name].unreadable:
            yield (
                f"{len(bad)} of the {samples[domain.name].looked_at} images of {domain.name} that were looked at "
                f"cannot be read, such as {bad[0][0]} ({bad[0][1]}); `shard` leaves such out, up to 1 % of a domain"
            )
        if domain.group.labelled and domain.group.loose:
            yield f"{count_of(len(domain.group.loose), 'image')} of {domain.name} in no class's folder: left out"
    if outside:
        yield f"{count_of(len(outside), 'image')} in no domain, such as {outside[0]}: left out"
    for name, other in sorted(spelt.items()):
        yield f"the folder {name!r} is taken as the class {other!r}"
    labelled = [domain for domain in domains if domain.group.labelled]
    every = {name for domain in labelled for name in domain.group.classes}
    for domain in labelled:
        if lacking := sorted(every - domain.group.classes.keys()):
            yield f"{domain.name} lacks {listed(lacking, MOST_NAMED)}, which another domain has"
    others = [path for one in collections for path in one.sizes if not is_image(path)]
    if others:
        yield f"{count_of(len(others), 'file')} of another kind than images ({kinds(others)}): left out"
    if hidden := sum(one.hidden for one in collections):
        yield f"{count_of(hidden, 'hidden file')}: left out"
    same, volume = doubles({domain.name: (domain.sizes, domain.collection.read) for domain in domains})
    if same:
        yield (
            f"{count_of(len(same), 'image')} in several domains, byte for byte, such as {' and '.join(same[0][:2])}; "
            "a target that shares images with its source measures nothing"
        )
    if volume:
        yield f"whether images are in two domains was not looked at: that would be {in_bytes(volume)} to read"


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"
