# A rule for each stage that dacsm/ledger/pipeline.py declares: its files, settings, code and needs come from there.
from functools import lru_cache

from dacsm.config.params import SOURCE_ONLY
from dacsm.ledger.pipeline import PHASES, STAGES
from dacsm.ledger.provenance import chosen_by, code_of, digest, settings_of
from dacsm.ledger.runs import run_of, runs_of

CODE = lru_cache(None)(lambda stage, chosen: digest(code_of(stage, chosen)))


def project_of(wildcards):
    """The project of a run: of a dataset that has settings, or of an experiment's."""
    if "experiment" in wildcards.keys():
        return PROJECTS[PARAMS.dataset_of(wildcards.experiment)]
    if wildcards.dataset not in PROJECTS:
        raise InputError(
            f"{wildcards.dataset} has no settings; add it to experiments, shard, pretrain and adapt.recipes in params.yaml."
        )
    return PROJECTS[wildcards.dataset]


def told(function):
    """A function of wildcards whose mistakes of the user come as the last word."""

    def of_run(wildcards):
        try:
            return function(wildcards)
        except InputError as error:
            last_word(error)
            raise

    return of_run


def patterns(stage):
    """The outputs of a stage's runs, for any arguments."""
    return stage.outputs_of(PATHS, {name: f"{{{name}}}" for name in stage.arguments})


def log_of(stage, suffix):
    """logs/ mirrors data/ and results/."""
    place = stage.place_of(PATHS, {name: f"{{{name}}}" for name in stage.arguments}).relative_to(PATHS.root)
    return PATHS.root / "logs" / place.parent / f"{place.name}.{suffix}"


def inputs(stage):
    return told(lambda wildcards: list(run_of(project_of(wildcards), stage.name, **wildcards).inputs))


def made_with(stage):
    """What a run is made with besides its inputs: where that changes, Snakemake does it again."""

    def of_run(wildcards):
        project = project_of(wildcards)
        code = CODE(stage.name, chosen_by(project, dict(wildcards.items())))
        return {"settings": settings_of(project, stage.name, dict(wildcards.items())), "code": code}

    return of_run


def needs(stage, name):
    """What a job needs of a machine; it changes no number. Threads, which do, are a setting of the recipe."""

    def of_run(wildcards):
        project = project_of(wildcards)
        resources = PARAMS.resources_of(project.dataset.name)
        if "compute" not in stage.takes:
            fixed = {"mem_mb": 4000, "runtime": stage.minutes, "gpu": 0, "workers": 0}
            return {**fixed, "threads": resources.encoders if "workers" in stage.takes else 1}[name]
        if name == "threads":
            recipe = "pretrain" if stage.name == "pretrain" or wildcards.get("method") == SOURCE_ONLY else "adapt"
            return PARAMS.recipe(recipe, project.dataset.name).threads
        known = {"mem_mb": resources.memory_mb, "runtime": resources.minutes, "gpu": resources.gpus}
        return {**known, "workers": resources.workers}[name]

    return told(of_run)


def command(stage):
    words = ["python -m dacsm", stage.name]
    words += [f"{{wildcards.{name}}}" for name in stage.arguments if name != "seed"]
    words += ["--seed {wildcards.seed}"] if "seed" in stage.arguments else []
    words += ["--workers {threads}"] if "workers" in stage.takes else []
    words += ["--workers {resources.workers}"] if "compute" in stage.takes else []
    return " ".join([*words, "--params {params.file} --log {log}"])


for stage in STAGES.values():

    rule:
        name:
            stage.name
        input:
            inputs(stage),
        output:
            patterns(stage),
        log:
            log_of(stage, "log"),
        benchmark:
            log_of(stage, "tsv")
        priority: stage.priority
        conda:
            "../envs/dacsm.yaml"
        threads: needs(stage, "threads")
        resources:
            mem_mb=needs(stage, "mem_mb"),
            runtime=needs(stage, "runtime"),
            gpu=needs(stage, "gpu"),
            workers=needs(stage, "workers"),
        params:
            made_with=made_with(stage),
            file=SETTINGS_FILE,
        message:
            f"{stage.name}: {' '.join(f'{{wildcards.{name}}}' for name in stage.arguments)}"
        shell:
            command(stage)


# A target for each phase of each dataset, such as digits_adapted: what the stages of dvc.yaml ask for. It is of all
# experiments of the dataset that `tables` in params.yaml names.
for project in PROJECTS.values():
    for phase, stage in PHASES.items():
        runs = [run for experiment in project.experiments() for run in runs_of(project, experiment, [stage.name])]

        rule:
            name:
                f"{project.dataset.name}_{phase}"
            input:
                list(dict.fromkeys(run.outputs[0] for run in runs)),
