rule scales:
    input:
        code=code("scales"),
        metrics=rescaled_metrics,
    output:
        csv=LAYOUT.scales("{dataset}", "csv"),
        markdown=LAYOUT.scales("{dataset}", "md"),
        figure=LAYOUT.scales("{dataset}", "png"),
    log:
        log_of(LAYOUT.scales("{dataset}")),
    benchmark:
        log_of(LAYOUT.scales("{dataset}"), "tsv")
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
        "{wildcards.dataset}: table of scales"
    shell:
        "python -m dacsm scales {wildcards.dataset} --params {params.file} --log {log}"
