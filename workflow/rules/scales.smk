rule scales:
    input:
        code=code("scales"),
        metrics=rescaled_metrics,
    output:
        csv=LAYOUT.scales("{experiment}", "csv"),
        markdown=LAYOUT.scales("{experiment}", "md"),
        figure=LAYOUT.scales("{experiment}", "png"),
    log:
        log_of(LAYOUT.scales("{experiment}")),
    benchmark:
        log_of(LAYOUT.scales("{experiment}"), "tsv")
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
