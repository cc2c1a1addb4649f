rule table:
    input:
        code=code("table"),
        dataset=CATALOG / "{dataset}.yaml",
        metrics=metrics,
        predictions=drawn_predictions,
        published=published_numbers,
    output:
        csv=LAYOUT.table("{dataset}", "csv"),
        markdown=LAYOUT.table("{dataset}", "md"),
        latex=LAYOUT.table("{dataset}", "tex"),
        differences=LAYOUT.differences("{dataset}"),
        validators=LAYOUT.validators("{dataset}"),
        metrics=LAYOUT.metrics("{dataset}"),
        figure=LAYOUT.plots("{dataset}") / "accuracy.png",
    log:
        log_of(LAYOUT.table("{dataset}")),
    benchmark:
        log_of(LAYOUT.table("{dataset}"), "tsv")
    conda:
        "../envs/dacsm.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        *settings("table"),
        file=SETTINGS_FILE,
    message:
        "{wildcards.dataset}: table"
    shell:
        "python -m dacsm table {wildcards.dataset} --params {params.file} --log {log}"
