rule explain:
    input:
        code=code("explain"),
        model=ADAPTED / "last.safetensors",
        log=ADAPTED / "log.csv",
        source=PATHS.shards("{dataset}", "{source}") / "index.json",
        labels=PATHS.shards("{dataset}", "{source}") / "labels.csv",
        target=PATHS.shards("{dataset}", "{target}") / "index.json",
    output:
        pictures=directory(EXPLAINED),
    log:
        log_of(EXPLAINED),
    benchmark:
        log_of(EXPLAINED, "tsv")
    conda:
        "../envs/dacsm.yaml"
    threads: threads_of("adapt")
    resources:
        mem_mb=megabytes,
        runtime=minutes,
        gpu=gpus,
        workers=loader_workers,
    params:
        *settings("explain"),
        file=SETTINGS_FILE,
    message:
        "{wildcards.dataset}: explain {wildcards.method}, {wildcards.source} to {wildcards.target}, seed {wildcards.seed}"
    shell:
        "python -m dacsm explain {wildcards.dataset} {wildcards.method} {wildcards.source}-{wildcards.target} "
        "--seed {wildcards.seed} --params {params.file} --workers {resources.workers} --log {log}"
