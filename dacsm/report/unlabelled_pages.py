"""The table of targets without labels as text for people and for LaTeX, and its pictures."""

from collections.abc import Iterator

from dacsm.config.params import SOURCE_ONLY
from dacsm.config.paths import Paths
from dacsm.report import plots
from dacsm.report.figures import DEVIATION, clear_figures, drawn_csv, mean_of_seeds
from dacsm.report.pages import HEAD, about_seeds, escape_latex, latex_seeds, latex_table
from dacsm.report.tables import MOST_CLASSES, Cell, Number, Table, arrow, decimal, page, printed
from dacsm.report.unlabelled import AGREEMENT, CONFIDENCE, PREDICTED, SCORE, UnlabelledRuns
from dacsm.runtime.files import write_csv

MOST_DRAWN = 40  # classes; of more, those that are predicted most often
NO_LABELS = "The target has no labels, so there is no accuracy: nothing here says how many predictions are right."


def unlabelled_page(runs: UnlabelledRuns) -> str:
    """The whole text."""
    return page([f"# {runs.title}", *described_section(runs)])


def described_section(runs: UnlabelledRuns) -> Iterator[str | Table]:
    """What was predicted on each task, and what the numbers are."""
    yield f"**{NO_LABELS}**"
    yield from _introduction(runs)
    for task in runs.experiment.tasks:
        yield from _about_task(runs, task)
        yield from _of_task(runs, task)
        yield from _agreement(runs, task)


def _introduction(runs: UnlabelledRuns) -> Iterator[str]:
    yield (
        f"Numbers are {about_seeds(runs.experiment)}. The checkpoint of each run was selected without labels; "
        f"{SOURCE_ONLY} is the source model after its last epoch. A model can be sure, and seeds and methods can "
        "agree, and all be wrong: label some of the images to know an accuracy."
    )
    evaluated = f"results/{runs.dataset.name}/evaluated"
    yield (
        f"The class of each image is in `{evaluated}/<method>/<task>/seed<k>/predictions.csv`. "
        f"`dacsm recommend {runs.experiment.name}` says which method the scores would choose, and how far they ranked "
        "methods on tasks with labels."
    )


def _about_task(runs: UnlabelledRuns, task: str) -> Iterator[str]:
    yield f"## {arrow(task)}"
    ends = (f"{domain} ({runs.dataset.domains[domain].title})" for domain in runs.dataset.split_task(task))
    images = runs.facts(task, runs.experiment.methods[0])["images"]
    yield f"Task: {' → '.join(ends)}, of which {images} images have a prediction."


def _of_task(runs: UnlabelledRuns, task: str) -> Iterator[str | Table]:
    if len(runs.dataset.classes) <= MOST_CLASSES:
        yield "### Images of each predicted class, in percent"
        yield classes_table(runs, task)
    else:
        yield f"How often each of the {len(runs.dataset.classes)} classes is predicted is in the CSV beside this file."
    yield "### Confidence, agreement and scores"
    yield (
        "Mean confidence is the mean probability of the predicted class, in percent; agreement between seeds is the "
        "percentage of images that get the same class in two seeds, averaged over all pairs of seeds. Scores are those "
        "of the validators, higher is better, at the epoch that was selected; “–” stands where one has none."
    )
    yield scores_table(runs, task)


def classes_table(runs: UnlabelledRuns, task: str) -> Table:
    """For each method the percentage of images that each class is predicted for."""
    rows = []
    for method in runs.experiment.methods:
        numbers = runs.numbers(task, method)
        rows.append([method, *(numbers[f"{PREDICTED}{name}"] for name in runs.dataset.classes)])
    return Table("", ["method", *runs.dataset.classes], rows)


def scores_table(runs: UnlabelledRuns, task: str) -> Table:
    """For each method its confidence, the agreement of its seeds, the epochs selected, and the validators' scores."""
    rows: list[list[Cell]] = []
    for method in runs.experiment.methods:
        numbers = runs.numbers(task, method)
        epochs = ", ".join(str(run["selected"]["epoch"]) for run in runs.metrics[task, method])
        scores = (_score(numbers[f"{SCORE}{name}"]) for name in runs.validators)
        rows.append([method, numbers[CONFIDENCE], numbers[AGREEMENT], epochs, *scores])
    return Table("", ["method", "mean confidence", "agreement between seeds", "epochs", *runs.validators], rows)


def _score(number: Number) -> str:
    """2.1034 ± 0.0110, with spaces that do not break: scores differ in later decimals than percentages do."""
    spread = decimal(number.spread, 4)
    return printed(number.mean, 4) + (f"\u00a0±\u00a0{spread}" if spread else "")


def _agreement(runs: UnlabelledRuns, task: str) -> Iterator[str | Table]:
    methods = runs.experiment.methods
    if len(methods) < 2:
        return
    yield "### Agreement between methods"
    yield "The percentage of images that two methods give the same class, seed by seed."
    rows = [
        [first, *("" if first == second else runs.agreement(task, first, second) for second in methods)]
        for first in methods
    ]
    yield Table("", ["", *methods], rows)


def unlabelled_latex(runs: UnlabelledRuns) -> str:
    """The whole file: for each task the classes predicted, then confidence, agreement and scores."""
    seeds, parts = latex_seeds(runs.experiment), [HEAD]
    for task in runs.experiment.tasks:
        about = f"{escape_latex(runs.title)}, {escape_latex(arrow(task))}, a target without labels"
        tables = [("mean confidence and agreement in percent, and label-free scores", scores_table(runs, task))]
        if len(runs.dataset.classes) <= MOST_CLASSES:
            tables.insert(0, ("images of each predicted class in percent", classes_table(runs, task)))
        for place, (what, table) in enumerate(tables, start=1):
            caption = f"{about}: {what}, {seeds}; no accuracy."
            parts.append(latex_table(table, caption, f"{runs.experiment.name}-{task}-{place}"))
    return "\n\n".join(parts) + "\n"


def draw_unlabelled(runs: UnlabelledRuns, paths: Paths) -> None:
    """For each task a picture of how often each class is predicted, and for each method a CSV of which DVC draws it."""
    experiment, classes = runs.experiment, runs.dataset.classes
    folder = paths.plots(experiment.name)
    clear_figures(folder)
    over = mean_of_seeds(experiment, DEVIATION)
    for task in experiment.tasks:
        methods = {}
        for method in experiment.methods:
            numbers = runs.numbers(task, method)
            methods[method] = {name: numbers[f"{PREDICTED}{name}"] for name in classes}
            rows = [(name, decimal(number.mean)) for name, number in methods[method].items()]
            write_csv(drawn_csv("predicted", method, task, experiment, paths), ("class", "percent"), rows)
        often = sorted(classes, key=lambda name: -max(of[name].mean for of in methods.values()))[:MOST_DRAWN]
        shown = {method: {name: of[name] for name in classes if name in often} for method, of in methods.items()}
        some = f", the {len(often)} of {len(classes)} classes predicted most" if len(often) < len(classes) else ""
        title = f"{runs.title}, {arrow(task)}: images of each predicted class{some}\nno labels, no accuracy; {over}"
        plots.bars(folder / f"predicted_{task}.png", title, shown, what="images (%)", top=0)
