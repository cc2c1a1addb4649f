rule table:
    input:
        code=code("table"),
        dataset=catalog_file,
        metrics=metrics,
        predictions=drawn_predictions,
        published=published_numbers,
    output:
        csv=PATHS.table("{experiment}", "csv"),
        markdown=PATHS.table("{experiment}", "md"),
        latex=PATHS.table("{experiment}", "tex"),
        differences=PATHS.differences("{experiment}"),
        validators=PATHS.validators("{experiment}"),
        metrics=PATHS.metrics("{experiment}"),
        figure=PATHS.plots("{experiment}") / "accuracy.png",
    log:
        log_of(PATHS.table("{experiment}")),
    benchmark:
        log_of(PATHS.table("{experiment}"), "tsv")
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
        "{wildcards.experiment}: table"
    shell:
        "python -m dacsm table {wildcards.experiment} --params {params.file} --log {log}"
