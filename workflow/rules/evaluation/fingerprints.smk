"""Fingerprints of samples and of the test split, for coverage and the map."""


rule fingerprints:
    """Fingerprint one shard of a set's crystals, as sampled."""
    input:
        "results/sample/{set}/{scatteritem}.parquet",
    output:
        "results/fingerprints/{set}/{scatteritem}.parquet",
    log:
        "logs/fingerprints/{set}/{scatteritem}.log",
    benchmark:
        "logs/fingerprints/{set}/{scatteritem}.tsv"
    conda:
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        mem_mb=6000,
        runtime="6h",
    params:
        settings=options(timeout=config["evaluate"]["fingerprint_timeout"]),
        work="results/fingerprints/{set}/work-{scatteritem}",
        code=code("fingerprints"),
    shell:
        'python "$SCRIPTS/fingerprints.py" --crystals {input:q} {params.settings:q} --workers {threads} '
        "--work {params.work:q} --out {output:q} 2> {log:q}"


use rule fingerprints as fingerprints_reference with:
    input:
        "results/data/{dataset}/test.parquet",
    output:
        "results/fingerprints/reference/{dataset}.parquet",
    log:
        "logs/fingerprints/reference/{dataset}.log",
    benchmark:
        "logs/fingerprints/reference/{dataset}.tsv"
    resources:
        mem_mb=6000,
        runtime="12h",
    params:
        settings=options(
            timeout=config["evaluate"]["fingerprint_timeout"],
            limit=config["evaluate"]["max_reference"],
            seed=config["seed"],
        ),
        work="results/fingerprints/reference/work-{dataset}",
        code=code("fingerprints"),
