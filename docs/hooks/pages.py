"""Which pages the site has, and where.

The pages keep the paths that they have in the repository, so that a link leads to the same page here and on GitHub. To
those in docs/ come pages from elsewhere in the repository, and those that are made from the code and not committed.
"""

from pathlib import Path

from code_reference import code_pages
from command_reference import commands_page
from markdown import Extension, Markdown
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from settings_reference import settings_page

ROOT = Path(__file__).parents[2]
ELSEWHERE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "data/README.md", "results/README.md")
CODE = "Code"  # the section of the navigation


class AngleBrackets(Extension):
    """`<name>` in a docstring is text. No page has HTML."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.preprocessors.deregister("html_block")
        md.inlinePatterns.deregister("html")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of the code into the navigation."""
    config.markdown_extensions.append(AngleBrackets())
    section = next(entry for entry in config.nav or () if CODE in entry)
    section[CODE] = [{Path(path).stem: path} for path in code_pages()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Give every page of the repository its path there, and add the pages that are made."""
    found = [file for file in files if file.src_dir != config.docs_dir]  # those of the theme
    for file in files:
        if file.src_dir == config.docs_dir and not file.src_uri.endswith(".py") and "__pycache__" not in file.src_uri:
            found.append(_of_repository(f"docs/{file.src_uri}", config, file.dest_uri))
    found += [_of_repository(path, config) for path in ELSEWHERE]
    reference = {"commands": commands_page(), "settings": settings_page()}
    made = {f"docs/reference/{name}.md": text for name, text in reference.items()} | code_pages()
    for path, content in made.items():
        file = File.generated(config, path, content=content)
        file.dest_uri = file.dest_uri.removeprefix("docs/")
        found.append(file)
    return Files(found)


def _of_repository(path: str, config: MkDocsConfig, address: str | None = None) -> File:
    return File(path, str(ROOT), config.site_dir, config.use_directory_urls, dest_uri=address)
