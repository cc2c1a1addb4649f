rule table:
    input:
        code=code("table"),
        dataset=catalog_file,
        metrics=metrics,
        predictions=drawn_predictions,
        published=published_numbers,
    output:
        csv=LAYOUT.table("{experiment}", "csv"),
        markdown=LAYOUT.table("{experiment}", "md"),
        latex=LAYOUT.table("{experiment}", "tex"),
        differences=LAYOUT.differences("{experiment}"),
        validators=LAYOUT.validators("{experiment}"),
        metrics=LAYOUT.metrics("{experiment}"),
        figure=LAYOUT.plots("{experiment}") / "accuracy.png",
    log:
        log_of(LAYOUT.table("{experiment}")),
    benchmark:
        log_of(LAYOUT.table("{experiment}"), "tsv")
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
