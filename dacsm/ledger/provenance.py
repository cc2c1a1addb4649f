"""What a run depends on besides its inputs: the settings that it takes, and the code that computes it.

Code counts by its meaning: comments, docstrings and layout are left out of its hash. Two folders compute nothing, so
that an edit of them re-makes nothing: `config`, since the settings that a run takes are recorded with it, and
`runtime`, which shows, fetches, saves and reports. Everything else that a stage imports counts, directly or not, also
inside functions. Where a module is chosen by name, only the chosen one counts:

* `import_module(f"dacsm.methods.{kind}")` brings the kind of the run's method, and so for readers of raw data;
* a module in a folder `parts` counts where the method's settings name it;
* `import_module(f"dacsm.adaptation.validators.{name}")` brings nothing: `evaluate` scores all epochs anew, and, as the
  audit does, says where the checkpoint that an adaptation kept is no longer of the selected epoch.

Templates of pages count byte by byte, with the modules that they lie beside.
"""

import ast
import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache, reduce
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from dacsm.config import SOURCE_ONLY
from dacsm.config.params import RECIPES
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.ledger.pipeline import STAGES, recipe_behind
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import sha256

PACKAGE = Path(__file__).parents[1]
NOT_COMPUTING = ("config", "runtime")
PARTS = "parts"
TEMPLATES = (".j2", ".css")  # they count with the modules beside them
VERSIONS = ("torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg", "webdataset")  # they decide a run's bits


def settings_of(project: Project, stage: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a run takes from params.yaml and from its dataset's file, all defaults filled in, by dotted key.

    A recipe is the one that the method trains by: where the method changes some of it, with that change.
    """
    declared, params, recipe = STAGES[stage], project.plain_params, recipe_behind(arguments)
    if recipe == "adapt":
        own = project.params.adaptation(project.dataset.name, arguments["method"]).model_dump(mode="json")
        params = {**params, "adapt": {**params["adapt"], "recipes": {project.dataset.name: own}}}
    keys = [key.format(recipe=RECIPES[recipe], **arguments) for key in declared.settings]
    found = {key: value for key in keys if (value := _at(params, key)) is not None}
    facts = project.plain_dataset
    if stage == "download":
        facts = _of_archive(facts, arguments["archive"])
    return found | {key: _at(facts, key) for key in (key.format(**arguments) for key in declared.facts)}


def _at(content: Any, key: str) -> Any:
    """What stands at a dotted key; None where nothing does, as a validator in a recipe of pretraining."""
    return reduce(lambda part, name: part.get(name) if isinstance(part, dict) else None, key.split("."), content)


def _of_archive(facts: Mapping[str, Any], archive: str) -> dict[str, Any]:
    """The facts that decide an archive: where it is fetched from does not, the options of its domains do."""
    holders = {name: domain["options"] for name, domain in facts["domains"].items() if archive in domain["archives"]}
    known = {key: facts["archives"][archive][key] for key in ("file", "bytes", "sha256", "md5")}
    return {**facts, "domains": holders, "archives": {archive: known}}


Chosen = frozenset[str] | None  # modules that are chosen by name; None stands for all that could be


def chosen_by(project: Project, arguments: Mapping[str, Any]) -> frozenset[str]:
    """The modules that a run's dataset and method choose: its reader, its kind, the kind's parts."""
    names = {f"dacsm.data.raw.{project.dataset.reader}"}
    method = arguments.get("method", SOURCE_ONLY)
    if method != SOURCE_ONLY:
        settings = project.params.method(method)
        names |= {f"dacsm.methods.{settings.kind}"}
        names |= {f"dacsm.methods.{settings.kind}.{PARTS}.{part}" for part in settings.parts}
    return frozenset(names)


def code_of(stage: str, chosen: Chosen = None) -> dict[str, str]:
    """The files whose code does a stage's work, relative to the project's folder and sorted, each with its hash.

    Nothing is imported to find out. The hash is of the code's meaning.
    """
    found: dict[Path, str] = {}
    waiting = {PACKAGE / "stages" / f"{stage}.py"}
    while waiting:
        path = waiting.pop()
        package = ".".join(path.relative_to(PACKAGE.parent).parts[:-1])
        imports, found[path] = _understood(path.read_bytes(), package)
        waiting |= {file for name, by_name in imports for file in _files(name, by_name, chosen)} - found.keys()
    for folder in {path.parent for path in found}:
        found |= {path: sha256(path) for end in TEMPLATES for path in folder.glob(f"*{end}")}
    return {str(path.relative_to(PACKAGE.parent)): found[path] for path in sorted(found)}


@lru_cache(maxsize=1000)
def _understood(source: bytes, package: str) -> tuple[frozenset[tuple[str, bool]], str]:
    """The modules that some code imports, each with whether it is chosen by name, and the hash of its meaning."""
    tree = ast.parse(source)
    imports: set[tuple[str, bool]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {(alias.name, False) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            imports |= {(module, False), *((f"{module}.{alias.name}", False) for alias in node.names)}
        elif isinstance(node, ast.Call) and _last_name(node.func) == "import_module":
            prefix = ast.unparse(node.args[0]).removeprefix("f").strip("'\"").split("{")[0]
            imports.add((prefix.rstrip("."), True))
    return frozenset(imports), hashlib.sha256(_meaning(tree).encode()).hexdigest()


def _last_name(function: ast.expr) -> str | None:
    """`name` of what is called as `name(…)` or `module.name(…)`."""
    return getattr(function, "attr", getattr(function, "id", None))


def _meaning(node: Any) -> str:
    """Code as text in which places, comments and docstrings have no part; the same for every version of Python."""
    if isinstance(node, list):
        return f"[{','.join(map(_meaning, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if (
        isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node) is not None
    ):
        fields["body"] = fields["body"][1:]
    said = (f"{name}={_meaning(value)}" for name, value in fields.items() if value is not None and value != [])
    return f"{type(node).__name__}({','.join(said)})"


def _files(module: str, by_name: bool, chosen: Chosen) -> Iterable[Path]:
    """The files that run when a module is imported: its own, and the __init__.py of the packages that it is in."""
    if by_name:
        folder = PACKAGE.parent.joinpath(*module.split("."))
        options = {f"{module}.{path.stem}" for path in folder.glob("*") if path.stem[0] not in "_."}
        names = options if chosen is None else options & chosen
        return [file for name in names for file in _files(name, False, chosen)]
    top, *inside = module.split(".")
    if top != PACKAGE.name or not inside or inside[0] in NOT_COMPUTING:
        return []
    if PARTS in inside[:-1] and chosen is not None:
        part = ".".join((top, *inside[: inside.index(PARTS) + 2]))
        if part not in chosen:
            return []
    packages = [PACKAGE.joinpath(*inside[: depth + 1]) / "__init__.py" for depth in range(len(inside))]
    own = PACKAGE.joinpath(*inside).with_suffix(".py")
    return [path for path in (*packages, own) if path.is_file()]


def require_records(paths: Paths, records: Path = Path(".snakemake/metadata")) -> None:
    """Refuse to go on where results are present but Snakemake's records of how they were made are not.

    Without records Snakemake takes any result for up to date, whatever params.yaml says by now. Raises InputError where
    results have no records.
    """
    patterns = ("*_table.csv", "*_scales.csv", "*/evaluated/**/metrics.json", "*/rescaled/**/metrics.json")
    present = any(True for pattern in patterns for _ in paths.results.glob(pattern))
    if present and not (records.is_dir() and any(records.iterdir())):
        raise InputError(
            f"{paths.results} holds results, but {records} has no records of how they were made; "
            f"bring them back with `git checkout -- {records}`, or remove {paths.results} to start anew."
        )
