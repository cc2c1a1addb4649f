# The settings that Snakemake sees, checked, and the places that follow from them.


def merged_params():
    """The settings that Snakemake sees, and the file from which the commands read the same.

    Under the root of params.yaml, results are what params.yaml says: DVC and the next reader look nowhere else.
    """
    describe_folders(config, "--config or --configfile")
    params = parse_params(config, "--config or --configfile")
    if params == FILE_PARAMS:
        return params, PARAMS_FILE
    if Path(params.root) == Path(FILE_PARAMS.root):
        stop(
            f"--config or --configfile changes settings of the results under root {params.root!r}, which {PARAMS_FILE} "
            "decides; edit it instead, or give the variant a root of its own with `--config root=runs/NAME`."
        )
    return params, Path(params.root) / PARAMS_FILE


def write_settings():
    if SETTINGS_FILE != PARAMS_FILE:
        text = yaml.safe_dump(PARAMS.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_text(SETTINGS_FILE, f"# Written by Snakemake: params.yaml with what --config changed.\n{text}")


def report_failures():
    """Let the sentences that failed commands left in their logs come last."""
    logs = [log for log in (PATHS.root / "logs").rglob("*.log") if log.stat().st_mtime >= STARTED]
    lines = [line for log in sorted(logs) for line in log.read_text(errors="replace").splitlines()]
    sentences = dict.fromkeys(line.removeprefix("dacsm: ") for line in lines if line.startswith("dacsm: "))
    for sentence in sentences or ["a job failed without a word of its own; its log is named above."]:
        last_word(sentence)


try:
    PARAMS, SETTINGS_FILE = merged_params()
    PATHS = Paths(Path(PARAMS.root))
    SPECS = {PARAMS.dataset_of(name): PARAMS.load_dataset_of(name) for name in PARAMS.experiments}
    require_records(PATHS)
except InputError as error:
    stop(error)

# The folders of runs, for any dataset, domain, method, task and seed.
SHARDS = PATHS.shards("{dataset}", "{domain}")
PRETRAINED = PATHS.pretrained("{dataset}", "{source}", "{seed}")
ADAPTED = PATHS.adapted("{dataset}", "{method}", "{source}-{target}", "{seed}")
EVALUATED = PATHS.evaluated("{dataset}", "{method}", "{source}-{target}", "{seed}")
RESCALED = PATHS.rescaled("{dataset}", "{method}", "{source}-{target}", "{seed}")
EXPLAINED = PATHS.explained("{dataset}", "{method}", "{source}-{target}", "{seed}")
