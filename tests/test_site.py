"""The documentation: it builds into a site without a warning, and its links lead somewhere on GitHub too."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from dacsm.cli.main import command_line
from dacsm.config.params import Params

CHECKOUT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "docs/example/*.md", "data/README.md", "results/README.md")
    for page in CHECKOUT.glob(pattern)
)
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(CHECKOUT), f"{link} leads out of the repository"
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link} has no such heading"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = ["mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(CHECKOUT)}
    built = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.mark.slow
def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        assert not re.search(r"<(script|img|iframe|source)\b[^>]*\bsrc=[\"']?(https?:)?//", html), page
        assert not re.search(r"<link\b[^>]*\bhref=[\"']?(https?:)?//", html), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
def test_the_site_has_every_command_setting_and_module(site: Path) -> None:
    commands = (site / "reference/commands.html").read_text(encoding="utf-8")
    for name in command_line()._subparsers._group_actions[0].choices:
        assert f'<h2 id="{name}">' in commands
    settings = (site / "reference/settings.html").read_text(encoding="utf-8")
    for definition in Params.model_json_schema()["$defs"].values():
        for key, value in definition["properties"].items():
            assert f"<code>{key}</code>" in settings
            assert re.split("[<'`]", value.get("description", ""))[0] in settings
    for module in (CHECKOUT / "dacsm").glob("*/*.py"):
        page, name = module.parent.name, module.stem
        found = "dacsm." + (page if name == "__init__" else f"{page}.{name}")
        assert f'id="{found}"' in (site / f"code/{page}.html").read_text(encoding="utf-8"), found


@pytest.mark.slow
def test_every_formula_is_a_picture_that_can_be_read_aloud(site: Path) -> None:
    method = (site / "method.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<svg class="formula" role="img" aria-label="[^"]+"', method)) > 20
    assert "arithmatex" not in method
    for page in site.rglob("*.html"):
        text = re.sub(r"<(code|pre|script|style)\b.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"\$[^$<>]*\\[a-z]+[^$<>]*\$", text), f"{page} shows the source of a formula"
