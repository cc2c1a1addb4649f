"""The model card of an exported model, in the form of the Hugging Face hub: facts for programs, then for people.

model_card.md.j2 has its words, and where they stand.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tabulate import tabulate

from dacsm import __version__
from dacsm.evaluation.calibration import BINS, LEAST, MOST
from dacsm.evaluation.metrics import LAST
from dacsm.report.card.exported import MEASURES, Exported, front_matter

MOST_CLASSES = 40  # of which each is listed with its accuracy
WIDTH = 110  # characters of a line


def model_card(model: Exported) -> str:
    """The text of README.md."""
    folder, (source, target) = FileSystemLoader(Path(__file__).parent), model.domains
    templates = Environment(loader=folder, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    titles = {domain: model.dataset.domains[domain].title for domain in model.domains}
    templates.filters |= {
        "paragraph": _paragraph,
        "titled": lambda domain: f"`{domain}`{f' ({titles[domain]})' * (titles[domain] != domain)}",
    }
    images = model.config["pretrained_cfg"]
    channels, _height, size = images["input_size"]
    text = templates.get_template("model_card.md.j2").render(
        model=model,
        facts=yaml.safe_dump(front_matter(model), sort_keys=False, allow_unicode=True, width=WIDTH).rstrip("\n"),
        version=__version__,
        source=source,
        target=target,
        images=images,
        channels=channels,
        size=size,
        squashed=math.floor(size / images["crop_pct"]),
        selected=model.metrics["selected"],
        accuracies=list(_accuracies(model)) if model.measured else [],
        calibrations=list(_calibrations(model)),
        on_target=_on_target(model),
        table=lambda header, rows: tabulate(rows, header, tablefmt="github", disable_numparse=True),
        **{"BINS": BINS, "LEAST": LEAST, "MOST": MOST, "LAST": LAST},
    )
    # Where a part is left out, the blank lines about it stay.
    return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n"


def _accuracies(model: Exported) -> Iterator[tuple[str, str]]:
    """What was measured on the target, and the percentage."""
    selected = model.metrics["selected"]
    rows = [(what, selected[key]) for key, what in MEASURES.items()]
    if model.classes <= MOST_CLASSES:
        rows += [(f"class {name}", recall) for name, recall in selected["per_class"].items()]
    yield from ((what, "–" if value is None else f"{value:.2f}") for what, value in rows)


def _calibrations(model: Exported) -> Iterator[Sequence[object]]:
    """Which images, how many, and their calibration errors and losses."""
    source, target = model.domains
    domains = {"source": f"`{source}`, held out", "target": f"`{target}`, measured afterwards with its labels"}
    for domain, found in model.calibration.items():
        numbers = (*found.calibration_error, *found.negative_log_likelihood)
        yield domains[domain], found.images, *map(_number, numbers)


def _on_target(model: Exported) -> str:
    """What the temperature does to the target's calibration error, where that is known."""
    if "target" not in model.calibration:
        return ", whose calibration was not measured"
    before, after = model.calibration["target"].calibration_error
    if after is None or after == before:
        return ""
    return f", where the error {'falls' if after < before else 'rises'} from {_number(before)} to {_number(after)} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _paragraph(text: str) -> str:
    """A paragraph of the template in lines of WIDTH."""
    return fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"
