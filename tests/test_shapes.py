"""Tables of the datasets as they are in the catalog, from made-up metrics: their shapes, and the published numbers."""

import csv
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from made_up_runs import make_runs

from dacsm.config.datasets import DatasetSpec, load_dataset
from dacsm.config.params import Params, load_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.report import published
from dacsm.report.differences import compare_methods
from dacsm.report.measured import collect
from dacsm.report.pages import table_in_latex, table_page
from dacsm.report.published import AVERAGE, published_columns, published_header, read_published
from dacsm.runtime.errors import InputError
from dacsm.stages.table import table

PROJECT = Path(__file__).parents[1]
SHAPES = {"visda": "classes", "office_home": "tasks", "domainnet": "matrix", "office31": "tasks"}
METHODS = ("source_only", "cdtrans", "dacsm")
SEEDS = (0, 1, 2)


class Made:
    """The tables of a dataset, made once for all tests of this file."""

    def __init__(self, name: str, params: Params, paths: Paths) -> None:
        self.dataset, self.paths, self.tasks = load_dataset(name), paths, params.experiments[name].tasks
        make_runs(self.dataset, params.experiments[name], paths)
        table(Project(params, self.dataset, paths), name)
        with paths.table(name, "csv").open(newline="", encoding="utf-8") as file:
            self.rows = list(csv.DictReader(file))
        self.markdown = paths.table(name, "md").read_text(encoding="utf-8").replace("\u00a0", " ")
        self.latex = paths.table(name, "tex").read_text(encoding="utf-8")

    def overall(self, method: str, task: str, kind: str = "selected") -> list[float]:
        """The headline measure of each seed."""
        folders = (self.paths.evaluated(self.dataset.name, method, task, seed) for seed in SEEDS)
        return [json.loads((folder / "metrics.json").read_text())[kind][self.dataset.headline] for folder in folders]

    def measured(self, selection: str = "infomax") -> list[dict[str, str]]:
        return [row for row in self.rows if row["origin"] == "measured" and row["selection"] == selection]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    params, paths, tables = load_params(PROJECT / "params.yaml"), Paths(tmp_path_factory.mktemp("tables")), {}

    def of(name: str) -> Made:
        if name not in tables:
            tables[name] = Made(name, params, paths)
        return tables[name]

    return of


def cell(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def lines_under(text: str, heading: str) -> list[list[str]]:
    """The cells of the first Markdown table under a heading, header first."""
    block = re.search(r"^\|.*?(?=\n\n|\Z)", text.split(heading, 1)[1], flags=re.MULTILINE | re.DOTALL).group()
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in block.splitlines()]
    return [rows[0], *rows[2:]]


@pytest.mark.parametrize("name", SHAPES)
def test_the_catalog_says_the_shape(name: str) -> None:
    assert load_dataset(name).table_form == SHAPES[name]


def test_visda_has_twelve_classes_and_two_means(made: Callable[[str], Made]) -> None:
    visda = made("visda")
    header, *rows = lines_under(visda.markdown, "## synthetic → real")
    assert header == ["method", "selection", *visda.dataset.classes, "mean per class", "overall"]
    assert [row[0] for row in rows] == list(METHODS)
    assert rows[2][-2] == cell(visda.overall("dacsm", "synthetic-real"))
    assert [row["task"] for row in visda.rows] == ["synthetic-real"] * len(visda.rows)


@pytest.mark.parametrize(("name", "count"), [("office_home", 12), ("office31", 6)])
def test_tasks_side_by_side_and_their_average(name: str, count: int, made: Callable[[str], Made]) -> None:
    found = made(name)
    assert len(found.tasks) == count
    header, *rows = lines_under(found.markdown, "## Measured: overall accuracy")
    arrows = [task.replace("-", " → ") for task in found.tasks]
    assert header == ["method", "selection", *arrows, f"average of {count}"]
    for method, _selection, *cells in rows:
        values = np.array([found.overall(method, task) for task in found.tasks])  # (T, S)
        assert cells == [*(cell(list(task)) for task in values), cell(list(values.mean(axis=0)))]
    (row,) = [row for row in found.measured() if row["method"] == "dacsm"]
    assert row[AVERAGE] == rows[2][-1].split(" ± ")[0]
    assert row[f"{found.tasks[3]}_std"] == rows[2][5].split(" ± ")[1]


def test_domainnet_is_a_matrix_a_method_with_means_of_lines_and_columns(made: Callable[[str], Made]) -> None:
    found = made("domainnet")
    domains = list(found.dataset.domains)
    for method, title in (("source_only", "source_only (last epoch)"), ("dacsm", "dacsm (infomax)")):
        header, *rows = lines_under(found.markdown, f"### {title}")
        assert header == ["source ↓ target →", *domains, "mean"]
        assert [row[0] for row in rows] == [*domains, "mean"]
        every = {task: np.array(found.overall(method, task)) for task in found.tasks}
        for source, row in zip(domains, rows[:-1], strict=True):
            for target, shown in zip(domains, row[1:-1], strict=True):
                assert shown == ("–" if source == target else cell(list(every[f"{source}-{target}"])))
            others = [every[f"{source}-{target}"] for target in domains if target != source]
            assert row[-1] == cell(list(np.mean(others, axis=0)))
        for target, shown in zip(domains, rows[-1][1:-1], strict=True):
            assert shown == cell(list(np.mean([every[f"{s}-{target}"] for s in domains if s != target], axis=0)))
        assert rows[-1][-1] == cell(list(np.mean(list(every.values()), axis=0)))
    matrix = [row for row in found.measured() if row["method"] == "dacsm"]
    assert [row["source"] for row in matrix] == [*domains, "mean"]
    assert [row[row["source"]] for row in matrix[:-1]] == [""] * 6


def test_a_part_of_the_matrix_has_means_only_where_it_is_whole(tmp_path: Path) -> None:
    params = load_params(PROJECT / "params.yaml")
    tasks = ("real-clipart", "real-sketch", "clipart-real", "clipart-sketch", "sketch-real")
    experiment = params.experiments["domainnet"].model_copy(update={"tasks": tasks, "seeds": (0,)})
    paths, dataset = Paths(tmp_path), load_dataset("domainnet")
    make_runs(dataset, experiment, paths)
    part = params.model_copy(update={"experiments": {**params.experiments, "domainnet": experiment}})
    table(Project(part, dataset, paths), "domainnet")
    rows = lines_under(paths.table("domainnet", "md").read_text(encoding="utf-8"), "### cdtrans (infomax)")
    assert [row[0] for row in rows[1:]] == ["clipart", "real", "sketch", "mean"]  # in the dataset's order
    means = {row[0]: row[-1] for row in rows[1:]}
    assert means.pop("sketch") == "–"
    assert all(re.fullmatch(r"\d+\.\d", mean) for mean in means.values())
    assert rows[-1][1] == "–"


@pytest.mark.parametrize("name", SHAPES)
def test_dvc_gets_few_numbers(name: str, made: Callable[[str], Made]) -> None:
    found = made(name)
    metrics = json.loads(found.paths.metrics(name).read_text())
    assert ("per_class" in metrics[found.tasks[0]]["dacsm"]) == (found.dataset.table_form == "classes")
    assert len(json.dumps(metrics)) < 12_000


@pytest.mark.parametrize("name", SHAPES)
def test_one_run_of_any_dataset_is_a_small_file(name: str, made: Callable[[str], Made]) -> None:
    paths = (made(name).paths.results / name / "evaluated").rglob("metrics.json")
    assert max(path.stat().st_size for path in paths) < 300_000


@pytest.mark.parametrize("name", SHAPES)
def test_latex_is_well_formed(name: str, made: Callable[[str], Made]) -> None:
    text = made(name).latex
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") > 1
    unescaped = re.sub(r"\\[{}&%$#_]", "", text)
    assert unescaped.count("{") == unescaped.count("}")
    assert unescaped.count("$") % 2 == 0
    for body in re.findall(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}(.*?)\\end\{tabular\}", unescaped, flags=re.DOTALL):
        rows = [line for line in body[1].splitlines() if line.endswith(r"\\")]
        assert {row.count("&") + 1 for row in rows} == {len(body[0])}
    assert not re.search(r"[→↓±−]", text)


def test_class_names_break_neither_markdown_nor_latex(tmp_path: Path) -> None:
    dataset, params = load_dataset("visda"), load_params(PROJECT / "params.yaml")
    odd = ("a|b", "c_d", "t-shirt", "e & f", "10%")
    dataset = dataset.model_copy(update={"classes": (*odd, *dataset.classes[len(odd) :])})
    experiment, paths = params.experiments["visda"].model_copy(update={"seeds": (0, 1)}), Paths(tmp_path)
    make_runs(dataset, experiment, paths)
    runs = collect(dataset, experiment, paths)
    lines = table_page(runs, [], compare_methods(runs), []).splitlines()
    named = [place for place, line in enumerate(lines) if "t-shirt" in line]
    assert len(named) == 2  # the accuracies, and the differences to CDTrans
    for place in named:
        assert r" a\|b |" in lines[place]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[place : place + 3]} == {
            len(dataset.classes) + (5 if "selection" in lines[place] else 4)
        }
    assert r"& a|b & c\_d & t-shirt & e \& f & 10\% &" in table_in_latex(runs, [])


# Published numbers


@pytest.fixture(scope="module")
def make_published() -> ModuleType:
    """The script that makes workflow/published."""
    import importlib.util

    path = PROJECT / "workflow/published/sources/make_published.py"
    spec = importlib.util.spec_from_file_location("make_published", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published_lines(name: str) -> list[dict[str, str]]:
    with (PROJECT / f"workflow/published/{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", SHAPES)
def test_the_published_rows_of_the_csv_are_those_of_the_file(name: str, made: Callable[[str], Made]) -> None:
    found = made(name)
    rows = [row for row in found.rows if row["origin"] == "published"]
    if name == "domainnet":
        cells = {}
        for row in rows:
            for target in (*found.dataset.domains, "mean"):
                column = AVERAGE if row["source"] == "mean" else f"{row['source']}-{target}"
                if row[target]:
                    cells[row["method"], row["backbone"], row["found_in"], column] = float(row[target])
    else:
        columns = published_columns(found.dataset)
        cells = {
            (row["method"], row["backbone"], row["found_in"], column): float(row[column])
            for row in rows
            for column in columns
            if row[column]
        }
    wanted = {
        (row["method"], row["backbone"], row["found_in"], column): float(row[column])
        for row in published_lines(name)
        for column in published_columns(found.dataset)
        if row[column]
    }
    assert cells == wanted
    assert {row["protocol"] for row in found.rows} == {found.dataset.protocol}
    assert not {row["found_in"] for row in found.rows if row["origin"] == "measured"} - {""}


@pytest.mark.parametrize("name", ["visda", "office_home", "office31"])
def test_the_published_rows_of_the_page_are_those_of_the_file(name: str, made: Callable[[str], Made]) -> None:
    found = made(name)
    measured, shown = found.markdown.split("## Published numbers")
    rows = [
        [*row[:4], *(None if text == "–" else float(text) for text in row[4:])]
        for row in lines_under(shown, "Printed by others")[1:]
    ]
    columns = published_columns(found.dataset)
    assert rows == [
        [*(row[key] for key in ("method", "backbone", "selection", "found_in")),
         *(float(row[column]) if row[column] else None for column in columns)]
        for row in published_lines(name)
    ]  # fmt: skip
    assert "README.md@" not in measured


def test_the_published_matrices_of_the_page_are_those_of_the_file(made: Callable[[str], Made]) -> None:
    found = made("domainnet")
    shown = found.markdown.split("## Published numbers")[1]
    domains = list(found.dataset.domains)
    for row in published_lines("domainnet"):
        header, *lines = lines_under(shown, f"### {row['method']}, {row['backbone']} ({row['selection']})")
        assert header[1:] == domains
        for source, *cells in lines:
            expected = [row.get(f"{source}-{target}") for target in domains]
            assert [None if text == "–" else float(text) for text in cells] == [
                None if text is None else float(text) for text in expected
            ]
    averages = {(line[0], line[1]): float(line[-1]) for line in lines_under(shown, "Printed by others")[1:]}
    assert averages == {(row["method"], row["backbone"]): float(row[AVERAGE]) for row in published_lines("domainnet")}


@pytest.mark.parametrize("name", [*SHAPES, "domainnet_split"])
def test_the_files_are_made_from_what_was_collected(name: str, make_published: ModuleType) -> None:
    dataset = load_dataset(name)
    rows = list(make_published.published_rows(dataset, make_published.read_collected()))
    with (PROJECT / f"workflow/published/{name}.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))
    assert found == [list(published_header(dataset)), *rows], "run workflow/published/sources/make_published.py"
    assert len(read_published(dataset)) == len(rows) > 0


def test_every_collected_number_is_in_one_table_or_left_out_with_a_reason(make_published: ModuleType) -> None:
    collected = make_published.read_collected()
    kept = [row for row in collected if make_published.left_out(row) is None]
    written = [
        value
        for name in make_published.DOMAINS
        for row in published_lines(name)
        for value in (row[column] for column in published_columns(load_dataset(name)))
        if value
    ]
    assert len(written) == len(kept)
    assert sorted(written) == sorted(row["accuracy"] for row in kept)
    assert len(kept) > 0.75 * len(collected)


@pytest.mark.parametrize(
    ("name", "method", "backbone", "column", "value"),
    [
        ("visda", "CDTrans", "DeiT-B/16", "truck", 55.3),
        ("visda", "CDTrans", "DeiT-B/16", "motorcycle", 95.93),
        ("visda", "source-only", "DeiT-B/16", "person", 11.8),
        ("visda", "CDTrans", "DeiT-B/16", "mean_per_class", 88.4),
        ("office_home", "CDTrans", "DeiT-S/16", "clipart-real_world", 82.3),
        ("office_home", "CDTrans", "DeiT-B/16", "real_world-product", 90.6),
        ("office_home", "source-only", "DeiT-B/16", "average", 74.8),
        ("domainnet", "CDTrans", "DeiT-B/16", "average", 45.2),
        ("domainnet", "CDTrans", "DeiT-S/16", "clipart-infograph", 25.3),
        ("domainnet_split", "SSRT", "ViT-B/16", "average", 45.2),
        ("office31", "CDTrans", "DeiT-B/16", "amazon-webcam", 96.7),
        ("office31", "source-only", "DeiT-S/16", "average", 86.7),
    ],
)
def test_numbers_known_by_heart(name: str, method: str, backbone: str, column: str, value: float) -> None:
    """Restated from CDTrans' README and others, under our names."""
    rows = [
        row
        for row in read_published(load_dataset(name))
        if (row.facts["method"], row.facts["backbone"]) == (method, backbone)
    ]
    assert value in [row.cells[column].mean for row in rows if column in row.cells]
    facts = [row.facts for row in rows]
    cdtrans = [one for one in facts if one["found_in"].startswith("CDTrans/") and one["method"] == "CDTrans"]
    assert {one["selection"] for one in cdtrans} <= {"oracle (target labels)"}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(published, "PUBLISHED", tmp_path)
    return tmp_path / "office31.csv"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"protocol": "train/test split"},
            "line 2 is of the protocol 'train/test split', but office31 is of 'transduct",
        ),
        ({"found_in": ""}, "line 2: found_in is empty; a published number says where it is from"),
        ({"backbone": ""}, "line 2: backbone is empty"),
        ({"dslr-amazon": "104"}, "line 2: dslr-amazon is '104', expected a percentage"),
        ({"average": "high"}, "line 2: average is 'high', expected a percentage"),
        ({"amazon-dslr": None}, "has no column 'amazon-dslr'"),
        ({"bus": "1"}, "has a column 'bus'"),
    ],
)
def test_published_rows_that_do_not_belong_are_refused(file: Path, changed: dict, sentence: str) -> None:
    dataset = load_dataset("office31")
    facts = {"method": "M", "backbone": "B", "selection": "S", "protocol": dataset.protocol, "found_in": "here"}
    row = facts | dict.fromkeys((*dataset.tasks, AVERAGE), "50") | changed
    row = {key: value for key, value in row.items() if value is not None}
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([row.keys(), row.values()])
    with pytest.raises(InputError, match=sentence) as caught:
        read_published(dataset)
    assert "\n" not in str(caught.value)


def test_a_dataset_without_published_numbers_has_none(file: Path) -> None:
    dataset: DatasetSpec = load_dataset("office31")
    assert not file.exists()
    assert read_published(dataset) == []
