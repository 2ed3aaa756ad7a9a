"""Further columns that some models need, added to the table of a split."""


rule bonds:
    """Add the bonds for the encoders of some models to the table of a split."""
    input:
        "results/data/{dataset}/{split}.parquet",
    output:
        "results/bonds/{dataset}/{split}.parquet",
    log:
        "logs/bonds/{dataset}/{split}.log",
    benchmark:
        "logs/bonds/{dataset}/{split}.tsv"
    conda:
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        mem_mb=6000,
        runtime="6h",
    params:
        work="results/bonds/{dataset}/work-{split}",
        code=code("bonds"),
    shell:
        'python "$SCRIPTS/bonds.py" --table {input:q} --workers {threads} --timeout 20 '
        "--work {params.work:q} --out {output:q} 2> {log:q}"


rule wyckoff:
    """Add space group and occupied Wyckoff positions to the table of a split, for models trained on them."""
    input:
        "results/data/{dataset}/{split}.parquet",
    output:
        "results/wyckoff/{dataset}/{split}.parquet",
    log:
        "logs/wyckoff/{dataset}/{split}.log",
    benchmark:
        "logs/wyckoff/{dataset}/{split}.tsv"
    conda:
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("wyckoff"),
    shell:
        'python "$SCRIPTS/wyckoff.py" --table {input:q} --workers {threads} --out {output:q} 2> {log:q}'
