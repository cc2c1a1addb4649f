# What a rule's inputs, settings and needs are, from its wildcards.
from functools import lru_cache


def spec_of(wildcards):
    """The facts of a dataset that has settings, or of that of an experiment."""
    if "experiment" in wildcards.keys():
        return SPECS[PARAMS.dataset_of(experiment_of(wildcards).name)]
    if wildcards.dataset not in SPECS:
        last_word(
            f"{wildcards.dataset} has no settings; add it to experiments, shard, pretrain and adapt.recipes in params.yaml."
        )
        raise InputError(f"{wildcards.dataset} has no settings")
    return SPECS[wildcards.dataset]


def experiment_of(wildcards):
    """What a table holds."""
    try:
        return PARAMS.experiment(wildcards.experiment)
    except InputError as error:
        last_word(error)
        raise


def code(stage):
    """The files that do a stage's work on a dataset."""
    of_reader = lru_cache(lambda reader: code_of(stage, reader))
    return lambda wildcards: of_reader(spec_of(wildcards).reader)


def settings(stage):
    """What a run takes from params.yaml and the catalog, an entry each: where one changes, Snakemake runs it again."""

    @lru_cache
    def of_arguments(dataset, arguments):
        return list(settings_of(stage, PARAMS, SPECS[dataset], dict(arguments)).items())

    def entry(number):
        def of_run(wildcards):
            return dict([of_arguments(spec_of(wildcards).name, tuple(wildcards.items()))[number]])

        return of_run

    return [entry(number) for number in range(len(SETTINGS[stage]) + len(FACTS[stage]))]


def threads_of(stage):
    """Threads change the order of sums, so they are a setting of the recipe."""

    def of_run(wildcards):
        source_only = wildcards.get("method") == SOURCE_ONLY
        return PARAMS.recipe("pretrain" if source_only else stage, spec_of(wildcards).name).threads

    return of_run


def encoding_threads(wildcards):
    """The digits are soon done; photographs take all that there is. The bytes are the same for any number."""
    return 1 if spec_of(wildcards).reader == "digits" else 8


def log_of(output, suffix="log"):
    """logs/ mirrors data/ and results/."""
    place = Path(output).relative_to(PATHS.root)
    return PATHS.root / "logs" / place.parent / f"{place.name}.{suffix}"


# A recipe of one thread (digits) is small and wants no GPU to itself; any other is sized for one.
def megabytes(wildcards, threads):
    return 4000 if threads == 1 else 32000


def minutes(wildcards, threads):
    return 120 if threads == 1 else 1440


def gpus(wildcards, threads):
    return int(threads > 1)


def loader_workers(wildcards, threads):
    return 0 if threads == 1 else threads


def weights_file(wildcards):
    """The local file that the backbone starts from, if it does."""
    weights = PARAMS.recipe("pretrain", spec_of(wildcards).name).model.weights
    return [] if weights == "none" or weights.startswith("timm:") else weights


def receipts(wildcards):
    """The receipts of the archives that hold a domain."""
    archives = spec_of(wildcards).require_domain(wildcards.domain).archives
    return [PATHS.receipt(wildcards.dataset, archive) for archive in archives]


def evaluated_model(wildcards):
    """The checkpoint that a method is evaluated by: the pretrained one for source_only."""
    run = (wildcards[name] for name in ("dataset", "method", "source", "target", "seed"))
    return PATHS.trained(*run) / "model.safetensors"


def evaluated_epochs(wildcards):
    """What an adaptation wrote about its epochs; pretraining has seen no target, so that it has none."""
    return [] if wildcards.method == SOURCE_ONLY else evaluated_model(wildcards).with_name("epochs.npz")


def labelled_images(wildcards):
    """The images that a method is evaluated on, with labels."""
    shards = PATHS.shards(wildcards.dataset, spec_of(wildcards).evaluation_domain(wildcards.target))
    return [shards / "index.json", shards / "labels.csv"]


def measured_images(wildcards):
    """The same, and the last checkpoint where they are not the images that were adapted on."""
    elsewhere = spec_of(wildcards).evaluation_domain(wildcards.target) != wildcards.target
    adapted = wildcards.method != SOURCE_ONLY and elsewhere
    last = [evaluated_model(wildcards).with_name("last.safetensors")] if adapted else []
    return [*labelled_images(wildcards), *last]


def catalog_file(wildcards):
    return CATALOG / f"{spec_of(wildcards).name}.yaml"


def metrics(wildcards):
    runs = runs_of(PARAMS, spec_of(wildcards), experiment_of(wildcards), PATHS)
    return [run.outputs[0] for run in runs if run.stage == "evaluate"]


def rescaled_metrics(wildcards):
    runs = asides_of(PARAMS, spec_of(wildcards), experiment_of(wildcards), PATHS)
    return [run.outputs[0] for run in runs if run.stage == "rescale"]


def drawn_predictions(wildcards):
    """The predictions that confusions are drawn from, where the table is one of classes."""
    by_class = spec_of(wildcards).table_form == "classes"
    return [path.with_name("predictions.csv") for path in metrics(wildcards)] if by_class else []


def published_numbers(wildcards):
    """The file of published numbers to show beside those measured, where there is one."""
    return published_file(spec_of(wildcards).name) or []


def phase_targets(dataset):
    """For each phase, the files that stand for all of it in the dataset's experiments."""
    found = {phase: {} for phase in PHASES.values()}
    for name in PARAMS.experiments_of(dataset):
        of_experiment = PARAMS, SPECS[dataset], PARAMS.experiment(name), PATHS
        for run in [*runs_of(*of_experiment), *asides_of(*of_experiment)]:
            found[PHASES[run.stage]][run.outputs[0]] = None  # those they share, once
    return {phase: list(files) for phase, files in found.items()}
