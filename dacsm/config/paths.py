"""Where every file of the pipeline lies. Snakemake's wildcards pass through: `paths.raw("{dataset}")` is a pattern."""

from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path

from dacsm.config import SOURCE_ONLY

Seed = int | str


@dataclass(frozen=True)
class Paths:
    """Paths under one root (`root:` in params.yaml). A phase has a folder, since DVC refuses outputs that overlap."""

    root: Path = Path()

    @property
    def results(self) -> Path:
        return self.root / "results"

    def raw(self, dataset: str) -> Path:
        return self.root / "data" / "raw" / dataset

    def receipt(self, dataset: str, archive: str) -> Path:
        """Receipts have a folder, since they are in git and archives are not."""
        return self.raw(dataset) / "receipts" / f"{archive}.json"

    def hashes(self, dataset: str) -> Path:
        """The sha256 of raw files, each with the size and times that it had when it was hashed."""
        return self.raw(dataset) / ".hashes.json"

    def shards(self, dataset: str, domain: str) -> Path:
        return self.root / "data" / "shards" / dataset / domain

    def pretrained(self, dataset: str, source: str, seed: Seed) -> Path:
        return self.results / dataset / "pretrained" / source / f"seed{seed}"

    def _run(self, phase: str, dataset: str, method: str, task: str, seed: Seed) -> Path:
        return self.results / dataset / phase / method / task / f"seed{seed}"

    adapted = partialmethod(_run, "adapted")
    evaluated = partialmethod(_run, "evaluated")
    rescaled = partialmethod(_run, "rescaled")
    explained = partialmethod(_run, "explained")
    exported = partialmethod(_run, "exported")

    def trained(self, dataset: str, method: str, task: str, seed: Seed) -> Path:
        """The folder of the model that a method is evaluated by on a task: the pretrained one for source_only."""
        if method == SOURCE_ONLY:
            return self.pretrained(dataset, task.partition("-")[0], seed)
        return self.adapted(dataset, method, task, seed)

    def _whole(self, what: str, experiment: str, suffix: str = "csv") -> Path:
        return self.results / f"{experiment}_{what}.{suffix}"

    table = partialmethod(_whole, "table")
    differences = partialmethod(_whole, "differences")
    validators = partialmethod(_whole, "validators")
    costs = partialmethod(_whole, "costs")  # no output that DVC compares: it is of clocks and memory
    metrics = partialmethod(_whole, "metrics", suffix="json")
    scales = partialmethod(_whole, "scales")  # not among the plots, which the stage `table` owns

    def plots(self, experiment: str) -> Path:
        return self.results / experiment / "plots"

    def report(self, experiment: str) -> Path:
        """The page of an experiment."""
        return self.results / experiment / "report.html"

    def records(self, name: str) -> Path:
        """The folder of the run records of a dataset, or of what is made of an experiment as a whole."""
        return self.results / name / "records"

    def record(self, place: Path) -> Path:
        """The run record of a run that writes into a folder of results: results/<dataset>/records/<phase>/….json."""
        dataset, *inside, last = place.relative_to(self.results).parts
        return self.records(dataset).joinpath(*inside, f"{last}.json")

    def resume(self, folder: Path) -> Path:
        """Where the state of an unfinished run is kept that writes into a folder of results: .resume/<name of the run>.

        Outside data/ and results/, since Snakemake removes the outputs of a run that was killed.
        """
        return self.root / ".resume" / "-".join(folder.relative_to(self.results).parts)
