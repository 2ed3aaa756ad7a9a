"""Crystals that users bring as files of their own. Also merges the shards of any stage."""


rule import_structures:
    """Read a user's own structures into crystal tables, one per shard."""
    input:
        lambda wildcards: ancient(own_file(Path("structures"), wildcards.own)),
    output:
        scatter.shards("results/sample/{{own}}/{scatteritem}.parquet"),
    log:
        "logs/sample/{own}/import.log",
    benchmark:
        "logs/sample/{own}/import.tsv"
    conda:
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        held=lambda wildcards: contents([own_file(Path("structures"), wildcards.own)]),
        code=code("import_structures"),
    shell:
        'python "$SCRIPTS/import_structures.py" --structures {input:q} --workers {threads} --out {output:q} 2> {log:q}'


rule merge:
    """Merge the shards of a stage into one table."""
    input:
        gather.shards("results/{{stage}}/{{set}}/{scatteritem}.parquet"),
    output:
        "results/{stage}/{set}.parquet",
    log:
        "logs/{stage}/{set}/merge.log",
    benchmark:
        "logs/{stage}/{set}/merge.tsv"
    conda:
        "../../../envs/models.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("merge"),
    shell:
        'python "$SCRIPTS/merge.py" --parts {input:q} --out {output:q} 2> {log:q}'
