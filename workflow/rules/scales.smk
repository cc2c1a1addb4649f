rule scales:
    input:
        code=code("scales"),
        metrics=rescaled_metrics,
    output:
        csv=PATHS.scales("{experiment}", "csv"),
        markdown=PATHS.scales("{experiment}", "md"),
        figure=PATHS.scales("{experiment}", "png"),
    log:
        log_of(PATHS.scales("{experiment}")),
    benchmark:
        log_of(PATHS.scales("{experiment}"), "tsv")
    conda:
        "../envs/dacsm.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        *settings("scales"),
        file=SETTINGS_FILE,
    message:
        "{wildcards.experiment}: table of scales"
    shell:
        "python -m dacsm scales {wildcards.experiment} --params {params.file} --log {log}"
