rule adapt:
    input:
        code=code("adapt"),
        model=PRETRAINED / "model.safetensors",
        source=PATHS.shards("{dataset}", "{source}") / "index.json",
        labels=PATHS.shards("{dataset}", "{source}") / "labels.csv",
        target=PATHS.shards("{dataset}", "{target}") / "index.json",
    output:
        model=ADAPTED / "model.safetensors",
        last=ADAPTED / "last.safetensors",
        epochs=ADAPTED / "epochs.npz",
        log=ADAPTED / "log.csv",
    log:
        log_of(ADAPTED),
    benchmark:
        log_of(ADAPTED, "tsv")
    priority: 10
    conda:
        "../envs/dacsm.yaml"
    threads: threads_of("adapt")
    resources:
        mem_mb=megabytes,
        runtime=minutes,
        gpu=gpus,
        workers=loader_workers,
    params:
        *settings("adapt"),
        file=SETTINGS_FILE,
    message:
        "{wildcards.dataset}: adapt with {wildcards.method}, {wildcards.source} to {wildcards.target}, seed {wildcards.seed}"
    shell:
        "python -m dacsm adapt {wildcards.dataset} {wildcards.method} {wildcards.source}-{wildcards.target} "
        "--seed {wildcards.seed} --params {params.file} --workers {resources.workers} --log {log}"
