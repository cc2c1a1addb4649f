rule pretrain:
    input:
        code=code("pretrain"),
        weights=weights_file,
        source=PATHS.shards("{dataset}", "{source}") / "index.json",
        labels=PATHS.shards("{dataset}", "{source}") / "labels.csv",
    output:
        model=PRETRAINED / "model.safetensors",
        log=PRETRAINED / "log.csv",
    log:
        log_of(PRETRAINED),
    benchmark:
        log_of(PRETRAINED, "tsv")
    priority: 20
    conda:
        "../envs/dacsm.yaml"
    threads: threads_of("pretrain")
    resources:
        mem_mb=megabytes,
        runtime=minutes,
        gpu=gpus,
        workers=loader_workers,
    params:
        *settings("pretrain"),
        file=SETTINGS_FILE,
    message:
        "{wildcards.dataset}: pretrain on {wildcards.source}, seed {wildcards.seed}"
    shell:
        "python -m dacsm pretrain {wildcards.dataset} {wildcards.source} --seed {wildcards.seed} --params {params.file} "
        "--workers {resources.workers} --log {log}"
