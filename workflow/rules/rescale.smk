rule rescale:
    input:
        code=code("rescale"),
        model=evaluated_model,
        measured=labelled_images,
    output:
        metrics=RESCALED / "metrics.json",
    log:
        log_of(RESCALED),
    benchmark:
        log_of(RESCALED, "tsv")
    conda:
        "../envs/dacsm.yaml"
    threads: threads_of("adapt")
    resources:
        mem_mb=megabytes,
        runtime=minutes,
        gpu=gpus,
        workers=loader_workers,
    params:
        *settings("rescale"),
        file=SETTINGS_FILE,
    message:
        "{wildcards.dataset}: rescale for {wildcards.method}, {wildcards.source} to {wildcards.target}, seed {wildcards.seed}"
    shell:
        "python -m dacsm rescale {wildcards.dataset} {wildcards.method} {wildcards.source}-{wildcards.target} "
        "--seed {wildcards.seed} --params {params.file} --workers {resources.workers} --log {log}"
