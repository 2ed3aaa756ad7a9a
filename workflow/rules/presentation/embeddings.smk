"""Descriptors of crystals, from which the map is computed."""

BY_POTENTIAL = config["explorer"]["descriptors"] == "potential"
DESCRIPTORS = (
    options(potential=config["relax"]["potential"], sha256=config["relax"]["sha256"])
    if BY_POTENTIAL
    else options(potential="fingerprints")
)


rule embeddings:
    """Compute a descriptor of every crystal of a set, for the map."""
    input:
        "results/evaluate/{set}.parquet" if BY_POTENTIAL else "results/fingerprints/{set}.parquet",
    output:
        "results/embeddings/{set}.parquet",
    log:
        "logs/embeddings/{set}.log",
    benchmark:
        "logs/embeddings/{set}.tsv"
    conda:
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=8000,
        runtime="6h",
    params:
        descriptors=lambda wildcards: DESCRIPTORS,
        held=WEIGHTS if BY_POTENTIAL else [],
        work="results/embeddings/{set}/work",
        device=config["device"],
        code=code("embeddings"),
    shell:
        'python "$SCRIPTS/embeddings.py" --crystals {input:q} {params.descriptors:q} --workers {threads} '
        "--device {params.device} --work {params.work:q} --out {output:q} 2> {log:q}"


use rule embeddings as embeddings_reference with:
    input:
        "results/data/{set}/test.parquet" if BY_POTENTIAL else "results/fingerprints/reference/{set}.parquet",
    output:
        "results/embeddings/reference/{set}.parquet",
    log:
        "logs/embeddings/reference/{set}.log",
    benchmark:
        "logs/embeddings/reference/{set}.tsv"
