"""Where every file of the pipeline lies. Snakemake's wildcards pass through: `raw("{dataset}")` is a pattern."""

from dataclasses import dataclass
from pathlib import Path

from dacsm.config.params import SOURCE_ONLY


@dataclass(frozen=True)
class Paths:
    """Paths under one root (`root:` in params.yaml). One folder a phase, since DVC refuses outputs that overlap."""

    root: Path = Path()

    def raw(self, dataset: str) -> Path:
        return self.root / "data" / "raw" / dataset

    def receipt(self, dataset: str, archive: str) -> Path:
        """A folder of their own: receipts are in git, archives are not."""
        return self.raw(dataset) / "receipts" / f"{archive}.json"

    def hashes(self, dataset: str) -> Path:
        """The sha256 of raw files, each with the size and times that it had when it was hashed."""
        return self.raw(dataset) / ".hashes.json"

    def shards(self, dataset: str, domain: str) -> Path:
        return self.root / "data" / "shards" / dataset / domain

    def phase(self, dataset: str, phase: str) -> Path:
        return self.root / "results" / dataset / phase

    def pretrained(self, dataset: str, source: str, seed: int | str) -> Path:
        return self.phase(dataset, "pretrained") / source / f"seed{seed}"

    def adapted(self, dataset: str, method: str, task: str, seed: int | str) -> Path:
        return self.phase(dataset, "adapted") / method / task / f"seed{seed}"

    def trained(self, dataset: str, method: str, source: str, target: str, seed: int | str) -> Path:
        """The folder of the model that a method is evaluated by on a task: the pretrained one for source_only."""
        if method == SOURCE_ONLY:
            return self.pretrained(dataset, source, seed)
        return self.adapted(dataset, method, f"{source}-{target}", seed)

    def evaluated(self, dataset: str, method: str, task: str, seed: int | str) -> Path:
        return self.phase(dataset, "evaluated") / method / task / f"seed{seed}"

    def rescaled(self, dataset: str, method: str, task: str, seed: int | str) -> Path:
        return self.phase(dataset, "rescaled") / method / task / f"seed{seed}"

    def explained(self, dataset: str, method: str, task: str, seed: int | str) -> Path:
        return self.phase(dataset, "explained") / method / task / f"seed{seed}"

    def record(self, output: Path) -> Path:
        """The record of a run that wrote into the folder `output`: results/<dataset>/records/<phase>/….json."""
        dataset, *inside = output.relative_to(self.root / "results").parts
        return self.phase(dataset, "records").joinpath(*inside[:-1]) / f"{inside[-1]}.json"

    def resume(self, output: Path) -> Path:
        """Where the state of an unfinished run is kept that writes into the folder `output`: .resume/<name of the run>.

        Outside data/ and results/, since Snakemake removes the outputs of a run that was killed.
        """
        return self.root / ".resume" / "-".join(output.relative_to(self.root / "results").parts)

    def table(self, experiment: str, suffix: str = "csv") -> Path:
        return self.root / "results" / f"{experiment}_table.{suffix}"

    def differences(self, experiment: str) -> Path:
        return self.root / "results" / f"{experiment}_differences.csv"

    def scales(self, experiment: str, suffix: str = "csv") -> Path:
        """Beside the table, and not among its plots: those are one output of the table."""
        return self.root / "results" / f"{experiment}_scales.{suffix}"

    def validators(self, experiment: str) -> Path:
        return self.root / "results" / f"{experiment}_validators.csv"

    def metrics(self, experiment: str) -> Path:
        return self.root / "results" / f"{experiment}_metrics.json"

    def plots(self, experiment: str) -> Path:
        return self.root / "results" / experiment / "plots"

    def experiment_record(self, experiment: str, phase: str) -> Path:
        """The record of what is made of a whole experiment: no run in a folder, so that it is named for its phase."""
        return self.root / "results" / experiment / "records" / f"{phase}.json"
