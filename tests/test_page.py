"""The page: the numbers of the table, names as text, the same bytes, a bounded size, and a look at it in a browser."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import groupby, pairwise, product
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import make_runs

from dacsm.config.datasets import DatasetSpec, load_dataset
from dacsm.config.experiments import Experiment
from dacsm.config.params import Params, load_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.report.html import examples
from dacsm.report.html.page import FOLDER
from dacsm.runtime.files import write_csv, write_json
from dacsm.stages.summarise import summarise
from dacsm.stages.table import table

HOSTILE = "<script>alert('bus')</script>"
CLASSES = (HOSTILE, "car & lorry", "truck")
VALIDATORS = {"infomax": [-0.5, -0.1, -0.3], "source_accuracy": [None, None, None], "last": [1.0, 2.0, 3.0]}


class Parts(HTMLParser):
    """What a test asks of a page: its tables as rows of texts, its pictures, its headings and its links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.pictures: list[dict[str, str | None]] = []
        self.headings: list[str] = []
        self.addresses: list[str] = []
        self.identifiers: list[str] = []
        self.text = ""
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        of = dict(attributes)
        self.addresses += [of[name] or "" for name in ("src", "href") if name in of]
        self.identifiers += [of["id"]] if of.get("id") else []
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.in_cell = True
            self.tables[-1][-1].append("")
        elif tag == "img":
            self.pictures.append(of)
        elif re.fullmatch("h[1-6]", tag):
            self.headings.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.in_cell:
            self.tables[-1][-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.in_cell &= tag not in ("td", "th")


def markdown_tables(text: str) -> list[list[list[str]]]:
    """The tables of a page of Markdown, header first."""
    blocks = [list(lines) for inside, lines in groupby(text.splitlines(), lambda line: line.startswith("|")) if inside]
    tables = []
    for block in blocks:
        rows = [[cell.strip(" ") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block]
        plain = [[cell.replace("**", "").replace("\\|", "|") for cell in row] for row in rows]
        tables.append([plain[0], *plain[2:]])
    return tables


def experiment_of(params: Params, name: str, **changed: object) -> Params:
    experiment = params.experiment(name).model_copy(update=changed)
    return params.model_copy(update={"experiments": {**params.experiments, name: experiment}})


def add_epochs(dataset: DatasetSpec, experiment: Experiment, paths: Paths) -> None:
    """Logs of training, and what evaluate says of every epoch."""
    random = np.random.default_rng(1)
    sources = {task.split("-")[0] for task in experiment.tasks}
    for source, seed in product(sources, experiment.seeds):
        rows = [(epoch, f"{random.random():.4f}", 90 + epoch) for epoch in (1, 2)]
        write_csv(
            paths.pretrained(dataset.name, source, seed) / "log.csv", ("epoch", "loss", "held_out_accuracy"), rows
        )
    for method, task, seed in product(experiment.methods, experiment.tasks, experiment.seeds):
        if method == "source_only":
            continue
        path = paths.evaluated(dataset.name, method, task, seed) / "metrics.json"
        metrics = json.loads(path.read_text())
        measures = {"mean_per_class": 61.0, "overall": 60.0}
        chosen = {name: {"epoch": None if None in scores else 2, **measures, "scores": scores}
                  for name, scores in VALIDATORS.items()}  # fmt: skip
        by_epoch = {measure: [50.0, 60.0, 70.0] for measure in measures}
        write_json(path, metrics | {"validator": "infomax", "validators": chosen, "accuracy_by_epoch": by_epoch})
        rows = [(epoch, *(f"{value:.4f}" for value in random.random(3)), 40, -0.1) for epoch in (1, 2, 3)]
        header = ("epoch", "source", "target", "noise_1", "pairs", "infomax")
        write_csv(paths.adapted(dataset.name, method, task, seed) / "log.csv", header, rows)


def add_record(paths: Paths, place: Path, stage: str) -> None:
    memory, device = {"ram": 700, "cuda": 0}, "cpu (Some CPU, 2 cores)"
    measured = {"training_seconds": 42.0, "images_per_second": 100.0}
    record = {"stage": stage, "settings": {"epochs": 3}, "code": {"dacsm/a.py": "c0de"}, "device": device,
              "git": {"commit": "0123456789abcdef", "clean": True}, "versions": {"torch": "2.14.1"},
              "inputs": {"data/shards/tiny/mnist/index.json": "feed" * 16}, "seconds": 60.5, "peak_memory_mb": memory,
              "measured": measured}  # fmt: skip
    write_json(paths.record(place), record)


@pytest.fixture(scope="module")
def project(
    tiny_params: Params, tiny_dataset: DatasetSpec, tiny_paths: Paths, tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """A made-up experiment with all that a page can show, under names that are HTML."""
    paths = Paths(tmp_path_factory.mktemp("page"))
    dataset = tiny_dataset.model_copy(update={"classes": CLASSES, "title": "Vehicles <b>bold</b>"})
    params = experiment_of(tiny_params, "tiny", seeds=(0, 1))
    experiment = params.experiment("tiny")
    shutil.copytree(tiny_paths.shards("tiny", "mnist"), paths.shards("tiny", "mnist"))
    make_runs(dataset, experiment, paths)
    add_epochs(dataset, experiment, paths)
    for method, task, seed in product(experiment.methods, experiment.tasks, experiment.seeds):
        add_record(paths, paths.trained("tiny", method, task, seed), "pretrain" if method == "source_only" else "adapt")
        add_record(paths, paths.evaluated("tiny", method, task, seed), "evaluate")
    found = Project(params, dataset, paths)
    table(found, "tiny")
    summarise(found, "tiny")
    return found


def page_of(project: Project, name: str = "tiny") -> str:
    return project.paths.report(name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(project: Project) -> str:
    return page_of(project)


@pytest.fixture
def copied(project: Project, tmp_path: Path) -> Project:
    """The same, for a test that takes something away."""
    shutil.copytree(project.paths.root, tmp_path, dirs_exist_ok=True)
    return Project(project.params, project.dataset, Paths(tmp_path))


def test_every_table_of_the_markdown_is_there_with_its_numbers(project: Project, text: str) -> None:
    tables = Parts(text).tables
    expected = markdown_tables(project.paths.table("tiny", "md").read_text(encoding="utf-8"))
    assert len(expected) >= 5
    for one in expected:
        assert one in tables


def test_published_numbers_have_tables_of_their_own(tmp_path: Path) -> None:
    params, dataset, paths = load_params(Path("params.yaml")), load_dataset("visda"), Paths(tmp_path)
    make_runs(dataset, params.experiment("visda"), paths)
    summarise(Project(params, dataset, paths), "visda")
    measured, published = page_of(Project(params, dataset, paths), "visda").split('<h2 id="published-numbers">')
    assert "CDTrans" not in "".join(cell for one in Parts(measured).tables for row in one for cell in row)
    assert "as their sources" in published or "Printed by others" in published


def test_names_are_shown_as_text(text: str) -> None:
    assert "<script" not in text
    assert "<b>" not in text
    assert HOSTILE in Parts(text).text
    assert html.escape("Vehicles <b>bold</b>") in text


def test_the_same_runs_give_the_same_bytes(project: Project, text: str) -> None:
    summarise(project, "tiny")
    assert page_of(project) == text


def test_nothing_is_asked_of_a_network(text: str) -> None:
    addresses = Parts(text).addresses
    assert addresses
    assert {re.split("[:,]", address)[0] for address in addresses if not address.startswith("#")} == {"data"}
    assert not re.search(r"url\(|@import", text)


def test_the_page_can_be_found_through(text: str) -> None:
    """Headings go down by one level at most, links lead somewhere, and pictures say what they are."""
    found = Parts(text)
    assert all(int(after[1]) <= int(before[1]) + 1 for before, after in pairwise(found.headings))
    assert found.headings.count("h1") == 1
    inside = [address[1:] for address in found.addresses if address.startswith("#")]
    assert len(inside) > 10
    assert set(inside) <= set(found.identifiers)
    assert len(found.identifiers) == len(set(found.identifiers))
    assert all(picture.get("alt") and picture.get("width") and picture.get("height") for picture in found.pictures)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(mode: int) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1."""
    colours = dict(re.findall(r"--(\w+): (#\w{6})", (FOLDER / "page.css").read_text().split(":root {")[1 + mode]))
    for ink, ground in product(("ink", "soft", "link"), ("ground", "raised")):
        darker, lighter = sorted((luminance(colours[ink]), luminance(colours[ground])))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (ink, ground)


def test_the_examples_follow_their_rule(project: Project) -> None:
    path = project.paths.evaluated("tiny", "dacsm", "synthetic-mnist", 0) / "predictions.csv"
    before = path.read_text()
    rows = [(index, index % 2, 0, f"{0.5 + index / 100:.4f}") for index in range(40)]  # odd ones are wrong
    write_csv(path, ("index", "label", "predicted", "probability"), rows)
    try:
        summarise(project, "tiny")
        shown = page_of(project).split("<h3>dacsm</h3>")[-1]
    finally:
        path.write_text(before)
        summarise(project, "tiny")
    images = [int(picture["alt"].split()[1]) for picture in Parts(shown).pictures]
    assert images == [39, 37, 35, 33, 31, 29, 0, 2, 4, 6, 8, 10]


def test_accuracy_by_target_labels_is_marked_as_after_the_fact(text: str) -> None:
    assert "computed afterwards, and chose nothing" in text
    assert any("after the fact" in picture["alt"] for picture in Parts(text).pictures)


def test_what_the_records_say_is_there(text: str) -> None:
    words = Parts(text).text
    said = ("Some CPU, 2 cores", "torch 2.14.1", "commit 0123456789ab", "mnist: feedfeedfeed", "42.0 s", "700 MiB")
    assert [one for one in said if one not in words] == []


@pytest.mark.parametrize(
    ("lost", "sentence"),
    [
        ("results/tiny/records", "left no run records here"),
        ("results/tiny/adapted", "No log of an adaptation is here"),
        ("data/shards/tiny/mnist", "The images are not here"),
    ],
)
def test_what_is_missing_is_said(copied: Project, lost: str, sentence: str) -> None:
    shutil.rmtree(copied.paths.root / lost)
    if lost.endswith("adapted"):
        for path in copied.paths.results.rglob("metrics.json"):
            metrics = json.loads(path.read_text())
            write_json(
                path, {key: value for key, value in metrics.items() if key not in ("validators", "accuracy_by_epoch")}
            )
    summarise(copied, "tiny")
    assert sentence in Parts(page_of(copied)).text


def test_sections_without_data_are_left_out(copied: Project) -> None:
    for path in copied.paths.results.rglob("predictions.csv"):
        path.unlink()
    shutil.rmtree(copied.paths.plots("tiny"))
    summarise(copied, "tiny")
    headings = re.findall(r'<h2 id="([\w-]+)">', page_of(copied))
    assert not {"images-of-the-target", "confusions", "accuracy-as-a-picture"} & set(headings)
    assert {"accuracy", "training", "what-it-was-made-from"} <= set(headings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes", "table_form", "tasks"), [("domainnet", 12, "matrix", 30), ("pacs", 345, "classes", 1)]
)
def test_a_page_of_many_is_bounded(name: str, classes: int, table_form: str, tasks: int, tmp_path: Path) -> None:
    """Many tasks, or many classes; five methods."""
    params, dataset, paths = load_params(Path("params.yaml")), load_dataset(name), Paths(tmp_path)
    names = tuple(f"class {number}" for number in range(classes))
    dataset = dataset.model_copy(update={"classes": names, "table_form": table_form})
    methods = ("source_only", "cdtrans", "dacsm", "csm", "dat")
    params = experiment_of(params, name, methods=methods, seeds=(0,), tasks=dataset.tasks[:tasks])
    make_runs(dataset, params.experiment(name), paths, images=800)
    add_epochs(dataset, params.experiment(name), paths)
    project = Project(params, dataset, paths)
    table(project, name)
    summarise(project, name)
    text = page_of(project, name)
    found = Parts(text)
    assert len(text) < 2e6
    assert len(found.pictures) < 8
    assert max(len(one) for one in found.tables) < 60
    assert max(len(one[0]) for one in found.tables) < 12
    assert "the 10 most frequent confusions" in found.text.lower()


def test_the_images_are_bounded(project: Project, tmp_path: Path) -> None:
    methods = load_params(Path("params.yaml")).experiment("digits_ablation").methods
    params = experiment_of(project.params, "tiny", methods=methods, contrasts=())
    paths = Paths(tmp_path)
    shutil.copytree(project.paths.shards("tiny", "mnist"), paths.shards("tiny", "mnist"))
    make_runs(project.dataset, params.experiment("tiny"), paths)
    summarise(Project(params, project.dataset, paths), "tiny")
    text = page_of(Project(params, project.dataset, paths))
    assert len(Parts(text).pictures) <= 2 * examples.EACH * examples.MOST_RUNS
    assert f"the first {examples.MOST_RUNS} of {len(methods)} pairs" in text


MEASURE = """
addEventListener("load", () => {
  const frame = document.querySelector("iframe"), inside = frame.contentDocument;
  const root = inside.documentElement, images = [...inside.images];
  document.querySelector("pre").textContent = JSON.stringify({
    wide: root.scrollWidth - root.clientWidth, width: root.clientWidth, images: images.length,
    broken: images.filter((one) => !one.complete || !one.naturalWidth).length,
    asked: frame.contentWindow.performance.getEntriesByType("resource").map((one) => one.name.slice(0, 80)),
  });
});
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium here, in which the page would be looked at (Debian has it as the package chromium)")
    return found


@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_all_of_it(chromium: str, text: str, width: int, tmp_path: Path) -> None:
    """Nothing is wider than the window, all pictures load, and nothing is asked of anyone."""
    frame = f'<iframe width="{width}" height="900" srcdoc="{html.escape(text)}"></iframe>'
    (tmp_path / "frame.html").write_text(f"<!doctype html>{frame}<pre></pre><script>{MEASURE}</script>")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
               "--window-size=1600,1000", "--dump-dom", (tmp_path / "frame.html").as_uri()]  # fmt: skip
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    measured = json.loads(html.unescape(printed.rpartition("<pre>")[2].partition("</pre>")[0]))
    assert measured["width"] > width - 40
    assert measured["wide"] == 0
    assert measured["images"] == len(Parts(text).pictures) > 20
    assert measured["broken"] == 0
    assert all(name.startswith("data:") for name in measured["asked"])
