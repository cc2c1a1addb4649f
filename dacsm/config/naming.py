"""Names for datasets, domains and classes, made of the names that folders have."""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence

from dacsm.config.datasets import APART, seen_as
from dacsm.runtime.errors import InputError


def valid_name(text: str, otherwise: str) -> str:
    """A name as the project asks for, made of any text: 1 to 40 letters, digits or _, a letter first."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_") or otherwise
    return (name if name[0].isalpha() else f"{otherwise}_{name}")[:40].rstrip("_")


def distinct_names(texts: Sequence[str], otherwise: str) -> list[str]:
    """A valid name for each text, each another."""
    names: list[str] = []
    for text in texts:
        name, number = valid_name(text, otherwise), 1
        while name in names:
            number += 1
            name = f"{valid_name(text, otherwise)[:36]}_{number}"
        names.append(name)
    return names


def class_name(folder: str) -> str:
    """The name of a class, from that of its folder: without what has a meaning in tables and paths."""
    return re.sub(rf"[{APART}]", "_", folder).strip().lstrip(".")[:100] or "_"


def spelt_alike(domains: Mapping[str, Collection[str]]) -> dict[str, str]:
    """For each class folder the class's name, so that domains that differ in case, blanks or _ have the same classes.

    The first domain that has a class spells it. Raises InputError where one domain has two spellings.
    """
    names: dict[str, str] = {}
    spelling: dict[str, str] = {}
    for domain, classes in domains.items():
        own: dict[str, str] = {}
        for folder in classes:
            name = class_name(folder)
            if (other := own.setdefault(seen_as(name), folder)) != folder:
                raise InputError(
                    f"{domain} has the folders {other!r} and {folder!r}, which look like one class in a table; "
                    "merge or rename them."
                )
            names[folder] = spelling.setdefault(seen_as(name), name)
    return names
