rule evaluate:
    input:
        code=code("evaluate"),
        model=evaluated_model,
        epochs=evaluated_epochs,
        target=PATHS.shards("{dataset}", "{target}") / "index.json",
        measured=measured_images,
    output:
        predictions=EVALUATED / "predictions.csv",
        metrics=EVALUATED / "metrics.json",
    log:
        log_of(EVALUATED),
    benchmark:
        log_of(EVALUATED, "tsv")
    conda:
        "../envs/dacsm.yaml"
    threads: threads_of("adapt")
    resources:
        mem_mb=megabytes,
        runtime=minutes,
        gpu=gpus,
        workers=loader_workers,
    params:
        *settings("evaluate"),
        file=SETTINGS_FILE,
    message:
        "{wildcards.dataset}: evaluate {wildcards.method}, {wildcards.source} to {wildcards.target}, seed {wildcards.seed}"
    shell:
        "python -m dacsm evaluate {wildcards.dataset} {wildcards.method} {wildcards.source}-{wildcards.target} "
        "--seed {wildcards.seed} --params {params.file} --workers {resources.workers} --log {log}"
