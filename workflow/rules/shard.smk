rule shard:
    input:
        code=code("shard"),
        receipts=receipts,
    output:
        index=SHARDS / "index.json",
        offsets=SHARDS / "offsets.npy",
        labels=SHARDS / "labels.csv",
        counts=SHARDS / "counts.csv",
    log:
        log_of(SHARDS),
    benchmark:
        log_of(SHARDS, "tsv")
    conda:
        "../envs/dacsm.yaml"
    threads: encoding_threads
    resources:
        mem_mb=4000,
        runtime=720,
    params:
        *settings("shard"),
        file=SETTINGS_FILE,
    message:
        "{wildcards.dataset}: shard {wildcards.domain}"
    shell:
        "python -m dacsm shard {wildcards.dataset} {wildcards.domain} --workers {threads} --params {params.file} "
        "--log {log}"
