"""The pictures: the same numbers give the same bytes, whatever the user's matplotlib settings; odd shapes are drawn."""

import struct
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from dacsm.report import plots
from dacsm.report.statistics import paired_difference
from dacsm.report.tables import Number


def chunks(path: Path) -> dict[str, bytes]:
    """The chunks of a PNG by name."""
    data, position, found = path.read_bytes(), 8, {}
    while position < len(data):
        length, name = struct.unpack(">I4s", data[position : position + 8])
        found[name.decode()] = data[position + 8 : position + 8 + length]
        position += 12 + length
    return found


def bars(path: Path, classes: int = 3, methods: int = 2, spread: float = 2.0) -> Path:
    means = np.linspace(40, 95, classes)
    numbers = {f"class {place}": Number(mean, spread) for place, mean in enumerate(means)}
    plots.bars(path, "Title", {f"method{place}": numbers for place in range(methods)})
    return path


def matrix(path: Path, classes: int = 3, **changed: float) -> Path:
    percent = np.full((classes, classes), 10.0)
    np.fill_diagonal(percent, changed.get("diagonal", 90.0))
    plots.confusion(path, "Title", [f"class {number}" for number in range(classes)], percent)
    return path


def matrices(path: Path, methods: int = 3, **changed: float) -> Path:
    percent = np.full((7, 7), 31.4)
    np.fill_diagonal(percent, np.nan)
    percent[0, 1] = changed.get("diagonal", 90.0)
    values = {f"method{number}": percent for number in range(methods)}
    plots.matrices(path, "Title", [*(f"domain{number}" for number in range(6)), "mean"], values)
    return path


def differences(path: Path, methods: int = 3, tasks: int = 2, seeds: int = 3, **changed: float) -> Path:
    lift = changed.get("diagonal", 90.0)
    found = {
        f"method{number}": paired_difference(
            {seed: lift + number + seed**2 for seed in range(seeds)}, dict.fromkeys(range(seeds), 88.0)
        )
        for number in range(methods)
    }
    plots.differences(path, "Title", {f"task{number}": found for number in range(tasks)})
    return path


@pytest.mark.parametrize("draw", [bars, matrix, matrices, differences])
def test_the_same_bytes_whatever_the_users_settings(draw, tmp_path: Path) -> None:
    first = draw(tmp_path / "first.png").read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 30}):
        second = draw(tmp_path / "second.png").read_bytes()
    assert second == first


@pytest.mark.parametrize("draw", [bars, matrix, matrices, differences])
def test_no_date_and_no_program_in_the_file(draw, tmp_path: Path) -> None:
    assert chunks(draw(tmp_path / "plot.png")).keys() <= {"IHDR", "pHYs", "IDAT", "IEND"}


@pytest.mark.parametrize("draw", [bars, matrix, matrices, differences])
def test_other_numbers_give_another_picture(draw, tmp_path: Path) -> None:
    changed = {"spread": 9.0} if draw is bars else {"diagonal": 50.0}
    assert draw(tmp_path / "a.png").read_bytes() != draw(tmp_path / "b.png", **changed).read_bytes()


@pytest.mark.parametrize(("classes", "methods"), [(1, 1), (12, 9), (65, 2)])
def test_any_number_of_classes_and_methods_fits_a_page(classes: int, methods: int, tmp_path: Path) -> None:
    with Image.open(bars(tmp_path / "plot.png", classes, methods)) as image:
        assert 1400 < image.width < 1800
        panels = -(-classes // plots.BARS_A_PANEL)
        assert image.height < 900 * panels


def test_one_seed_and_absent_classes_are_drawn_without_warnings(tmp_path: Path, recwarn) -> None:
    means = {"a": 80.0, "b": np.nan, "c": 60.0}
    one = {name: Number(mean) for name, mean in means.items()}
    two = {name: Number(mean, mean / 50) for name, mean in means.items()}
    plots.bars(tmp_path / "bars.png", "Title", {"one": one, "two": two})
    percent = np.array([[80.0, 20.0], [np.nan, np.nan]])
    plots.confusion(tmp_path / "matrix.png", "Title", ["a", "b"], percent)
    assert [str(warning.message) for warning in recwarn] == []
    with Image.open(tmp_path / "matrix.png") as image:
        colours = image.convert("RGB").getcolors(maxcolors=1 << 20)
    assert max(colours)[1] == (255, 255, 255)  # the absent class's row stays white


@pytest.mark.parametrize("classes", [30, 100])
def test_large_matrices_are_drawn(classes: int, tmp_path: Path) -> None:
    with Image.open(matrix(tmp_path / "plot.png", classes)) as image:
        assert min(image.size) > 1000


@pytest.mark.parametrize("methods", [1, 2, 4, 7])
def test_matrices_of_any_number_of_methods(methods: int, tmp_path: Path) -> None:
    with Image.open(matrices(tmp_path / "plot.png", methods)) as image:
        assert 500 < image.width < 2200
        assert image.height < 800 * -(-methods // 3) + 200


@pytest.mark.parametrize(("methods", "tasks", "seeds"), [(1, 1, 1), (1, 1, 3), (15, 1, 10), (2, 13, 3), (1, 31, 2)])
def test_differences_of_any_number_of_methods_and_tasks(methods: int, tasks: int, seeds: int, tmp_path: Path) -> None:
    with Image.open(differences(tmp_path / "plot.png", methods, tasks, seeds)) as image:
        assert 1400 < image.width < 1800
        assert image.height < 400 + 60 * (methods + 1) * tasks


def test_the_colour_of_a_difference_is_its_verdict(tmp_path: Path) -> None:
    def colours(lift: float) -> set[str]:
        with Image.open(differences(tmp_path / "plot.png", methods=1, tasks=1, diagonal=lift)) as image:
            found = {f"#{red:02X}{green:02X}{blue:02X}" for _count, (red, green, blue) in
                     image.convert("RGB").getcolors(maxcolors=1 << 20)}  # fmt: skip
        return {verdict for verdict in ("better", "worse") if plots.VERDICTS[verdict][0] in found}

    assert colours(99.0) == {"better"}
    assert colours(70.0) == {"worse"}
    assert colours(86.0) == set()  # grey, as letters are
