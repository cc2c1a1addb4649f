"""What a result depends on: the code that makes it, and the settings that it takes."""

import ast
from collections.abc import Mapping
from functools import lru_cache, reduce
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import SOURCE_ONLY, Params
from dacsm.config.paths import Paths
from dacsm.runtime.errors import InputError

PACKAGE = Path(__file__).parents[1]
STAGES = ("download", "shard", "pretrain", "adapt", "evaluate", "table")
ASIDES = ("rescale", "scales", "explain")  # stages beside the way to the table, which are only made when asked for

# Modules that do none of a stage's work: what a stage takes from params.yaml and the catalog is in its settings,
# the format of files is stated by a version inside them, and what is transferred is held to its size and hash. A change
# to these alone must train nothing.
NOT_CODE = {
    "runtime",
    "config",
    "ledger",
    "cli",
    *("catalog", "cli", "errors", "files", "paths", "methods", "params", "provenance", "validation"),
    *("transfer", "transfer_progress"),
}

# What each stage takes from params.yaml. {…} are the run's arguments; {recipe} is that of the run that is evaluated.
SETTINGS = {
    "download": (),
    "shard": ("shard.{dataset}",),
    "pretrain": ("pretrain.{dataset}",),
    "adapt": ("adapt.recipes.{dataset}", "adapt.methods.{method}", "pretrain.{dataset}"),
    "evaluate": ("{recipe}.{dataset}",),
    "table": ("experiments.{experiment}",),
    "rescale": ("{recipe}.{dataset}", "rescale.scales"),
    "scales": ("experiments.{experiment}", "rescale.scales"),
    "explain": ("adapt.recipes.{dataset}", "adapt.methods.{method}", "pretrain.{dataset}"),
}
# What each stage takes from the dataset's file in the catalog. The table shows all of it, so that the file is an input.
FACTS = {
    "download": ("reader", "archives", "domains"),
    "shard": ("reader", "classes", "channels", "domains.{domain}"),
    "pretrain": ("classes", "channels"),
    "adapt": ("classes", "channels"),
    "evaluate": ("classes", "headline", "protocol"),
    "table": (),
    "rescale": ("classes", "protocol"),
    "scales": ("title", "headline", "protocol", "development_task"),
    "explain": ("title", "classes", "channels"),
}


def code_of(stage: str, reader: str | None = None) -> list[str]:
    """The project's files whose code does a stage's work, relative to the project's folder and sorted.

    These are what dacsm/<stage>.py imports, directly or not, also inside functions; nothing is imported to find out.
    Of modules imported by a computed name (dacsm.data.raw) only `reader` counts, or all where it is not given.
    """
    found: set[Path] = set()
    waiting = {PACKAGE / "stages" / f"{stage}.py"}
    while waiting:
        path = waiting.pop()
        found.add(path)
        fixed, chosen = _imports(path)
        waiting |= {*fixed, *(file for file in chosen if reader in (None, file.stem))} - found
    return sorted(str(path.relative_to(PACKAGE.parent)) for path in found)


@lru_cache
def _imports(path: Path) -> tuple[frozenset[Path], frozenset[Path]]:
    """The project's files that a file imports by name, and those that it may import by a computed name."""
    package = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1])
    names: set[str] = set()
    chosen: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            prefix = (
                ast.unparse(node.args[0]).removeprefix("f").strip("'\"").split("{")[0]
            )  # f'dacsm.data.raw.{reader}'
            chosen |= {file for file in _folder(prefix.rstrip(".")).glob("*.py") if file.stem != "__init__"}
    return frozenset(file for name in names for file in _files(name)), frozenset(chosen)


def _folder(module: str) -> Path:
    return PACKAGE.parent.joinpath(*module.split("."))


def _files(module: str) -> list[Path]:
    """The files that run when `module` is imported: its own, and the __init__.py of the packages that it is in."""
    top, *inside = module.split(".")
    if top != PACKAGE.name or not inside or inside[0] in NOT_CODE:
        return []
    packages = [PACKAGE.joinpath(*inside[: depth + 1]) / "__init__.py" for depth in range(len(inside))]
    own = PACKAGE.joinpath(*inside).with_suffix(".py")
    return [path for path in (*packages, own) if path.is_file()]


def settings_of(stage: str, params: Params, dataset: DatasetSpec, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a run takes from params.yaml and from its dataset's file, all defaults filled in, by dotted key.

    `arguments` are the run's own: dataset, and archive, domain, source, method, task, seed or experiment, as its stage
    has them.
    """
    facts = dict(_plain(dataset))
    if stage == "download":  # an archive is made anew for the options of its domains alone
        holders = {name: domain for name, domain in dataset.domains.items() if arguments["archive"] in domain.archives}
        facts["domains"] = {name: domain.options for name, domain in holders.items()}
        known = facts["archives"][arguments["archive"]]  # where it is fetched from changes nothing
        facts["archives"] = {arguments["archive"]: {key: known[key] for key in ("file", "bytes", "sha256", "md5")}}
    recipe = "pretrain" if arguments.get("method") == SOURCE_ONLY else "adapt.recipes"
    found = {}
    for keys, content in ((SETTINGS[stage], _plain(params)), (FACTS[stage], facts)):
        for key in keys:
            place = key.format(recipe=recipe, **arguments)
            found[place] = reduce(lambda part, name: part[name], place.split("."), content)
    return found


_PLAIN: dict[int, tuple[BaseModel, dict[str, Any]]] = {}  # the object itself too, so that its id stays its own


def _plain(settings: BaseModel) -> dict[str, Any]:
    """Settings or facts as plain values; made once for each object, since Snakemake asks for every job."""
    if id(settings) not in _PLAIN:
        _PLAIN[id(settings)] = settings, settings.model_dump(mode="json")
    return _PLAIN[id(settings)][1]


def require_records(paths: Paths, records: Path = Path(".snakemake/metadata")) -> None:
    """Refuse to go on where results are present but Snakemake's records of how they were made are not.

    Without records Snakemake takes any result for up to date, whatever params.yaml says by now.

    Raises:
        InputError: where results have no records.
    """
    results = paths.table("*").parent
    patterns = ("*_table.csv", "*_scales.csv", "*/evaluated/**/metrics.json", "*/rescaled/**/metrics.json")
    present = any(True for pattern in patterns for _ in results.glob(pattern))
    if present and not (records.is_dir() and any(records.iterdir())):
        raise InputError(
            f"{results} holds results, but {records} has no records of how they were made; "
            f"bring them back with `git checkout -- {records}`, or remove {results} to start anew."
        )
