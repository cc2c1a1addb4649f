rule download:
    input:
        code=code("download"),
    output:
        receipt=PATHS.receipt("{dataset}", "{archive}"),
    log:
        log_of(PATHS.receipt("{dataset}", "{archive}")),
    benchmark:
        log_of(PATHS.receipt("{dataset}", "{archive}"), "tsv")
    conda:
        "../envs/dacsm.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=720,
    params:
        *settings("download"),
        file=SETTINGS_FILE,
    message:
        "{wildcards.dataset}: download {wildcards.archive}"
    shell:
        "python -m dacsm download {wildcards.dataset} {wildcards.archive} --params {params.file} --log {log}"
