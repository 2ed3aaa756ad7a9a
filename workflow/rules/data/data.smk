"""Crystals of the data sets: read from the configured files, or downloaded, and parsed."""


rule data:
    """Parse one split of a data set into a crystal table."""
    output:
        "results/data/{dataset}/{split}.parquet",
    log:
        "logs/data/{dataset}/{split}.log",
    benchmark:
        "logs/data/{dataset}/{split}.tsv"
    conda:
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        reading=lambda wildcards: options(**plan.reading(wildcards.dataset, wildcards.split)),
        held=lambda wildcards: contents(plan.source_files(wildcards.dataset, wildcards.split)),
        seed=config["seed"],
        code=code("data"),
    shell:
        'python "$SCRIPTS/data.py" --dataset {wildcards.dataset:q} --split {wildcards.split} {params.reading:q} '
        "--seed {params.seed} --workers {threads} --out {output:q} 2> {log:q}"
