"""A page for each folder of the package, with the docstrings of its modules."""

from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "dacsm"
# In the order in which data flows; docs/architecture.md says what each folder is for.
ORDER = ("runtime", "config", "data", "models", "training", "evaluation", "adaptation", "methods", "report", "stages",
         "ledger", "cli")  # fmt: skip


def code_pages() -> dict[str, str]:
    """The text of each page by its path, for mkdocstrings to fill."""
    return {f"docs/code/{folder}.md": _page(folder) for folder in ORDER}


def _page(folder: str) -> str:
    modules = (
        ".".join(("dacsm", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted((PACKAGE / folder).rglob("*.py"))
    )
    return "\n\n".join([f"# dacsm.{folder}", *(f"::: {module}" for module in sorted(modules))]) + "\n"
