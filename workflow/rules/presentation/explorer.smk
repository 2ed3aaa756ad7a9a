"""The map of all crystals as one page. Sets of csp are shown only where there are no others."""

SHOWN, DATASETS = plan.shown(), plan.references()
CURVES = [
    training for training in plan.trained() if any(training in fact for name in SHOWN for fact in plan.facts(name))
]
DRAWN = [
    *expand("results/evaluate/{set}.{kind}", set=SHOWN, kind=["parquet", "json"]),
    *expand("results/embeddings/{set}.parquet", set=SHOWN),
    *expand("results/data/{dataset}/test.parquet", dataset=DATASETS),
    *expand("results/embeddings/reference/{dataset}.parquet", dataset=DATASETS),
]


rule explorer:
    """Show every crystal on one map, in one page that needs no network."""
    input:
        DRAWN,
        expand("results/sample/{set}.parquet", set=SHOWN),
        expand("results/train/{training}/log.csv", training=CURVES),
    output:
        report(update("results/explorer.html"), category="Explorer", labels={"page": "every crystal on one map"}),
    log:
        "logs/explorer.log",
    benchmark:
        "logs/explorer.tsv"
    conda:
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        layers=layers(SHOWN, DATASETS, sample="results/sample/{set}.parquet"),
        curves=[word for name in CURVES for word in ("--curve", name, f"results/train/{name}/log.csv")],
        page=lambda wildcards: options(
            title=config["explorer"]["title"],
            max_crystals=config["explorer"]["max_crystals"],
            max_reference=config["explorer"]["max_reference"],
        ),
        seed=config["seed"],
        code=code("explorer"),
    shell:
        'python "$SCRIPTS/explorer.py" {params.layers:q} {params.curves:q} {params.page:q} --seed {params.seed} '
        "--cache results/explorer/positions --out {output:q} 2> {log:q}"
