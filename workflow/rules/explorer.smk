"""What people look at: the map of all crystals as one page, and the figures. Sets of csp only where there are no others."""

import hashlib

SHOWN = plan.shown()
DATASETS = list(dict.fromkeys(map(plan.dataset, SHOWN)))
CURVES = [
    training for training in plan.trained() if any(training in fact for name in SHOWN for fact in plan.facts(name))
]
BY_POTENTIAL = config["explorer"]["descriptors"] == "potential"
DESCRIPTORS = f"--potential {shlex.quote(config['relax']['potential'] if BY_POTENTIAL else 'fingerprints')} " + (
    f"--sha256 {config['relax']['sha256']} " if BY_POTENTIAL and config["relax"]["sha256"] else ""
)
PAGE = sorted((ROOT / "src/xtalgen/explorer/page").iterdir())


rule embeddings:
    """Describe every crystal of a set by one vector, for the map."""
    input:
        "results/evaluate/{set}.parquet" if BY_POTENTIAL else "results/fingerprints/{set}.parquet",
    output:
        "results/embeddings/{set}.parquet",
    log:
        "logs/embeddings/{set}.log",
    benchmark:
        "logs/embeddings/{set}.tsv"
    conda:
        "../../envs/crystals.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=8000,
        runtime="6h",
    params:
        descriptors=DESCRIPTORS,
        work="results/embeddings/{set}/work",
        device=config["device"],
        code=code("embeddings"),
    shell:
        "python $SCRIPTS/embeddings.py --crystals {input:q} {params.descriptors} --workers {threads} --device {params.device} "
        "--work {params.work:q} --out {output:q} 2> {log:q}"


use rule embeddings as embeddings_reference with:
    input:
        "results/data/{set}/test.parquet" if BY_POTENTIAL else "results/fingerprints/reference/{set}.parquet",
    output:
        "results/embeddings/reference/{set}.parquet",
    log:
        "logs/embeddings/reference/{set}.log",
    benchmark:
        "logs/embeddings/reference/{set}.tsv"


rule explorer:
    """Show every crystal on one map, in one page that needs no network."""
    input:
        expand("results/evaluate/{set}.{kind}", set=SHOWN, kind=["parquet", "json"]),
        expand("results/{stage}/{set}.parquet", stage=["sample", "embeddings"], set=SHOWN),
        expand("results/data/{dataset}/test.parquet", dataset=DATASETS),
        expand("results/embeddings/reference/{dataset}.parquet", dataset=DATASETS),
        expand("results/train/{training}/log.csv", training=CURVES),
    output:
        report("results/explorer.html", category="Explorer", labels={"page": "every crystal on one map"}),
    log:
        "logs/explorer.log",
    benchmark:
        "logs/explorer.tsv"
    conda:
        "../../envs/crystals.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        layers=plan.layers(with_samples=True),
        curves=" ".join(f"--curve '{name}' results/train/{name}/log.csv" for name in CURVES),
        limits=f"--max-crystals {config['explorer']['max_crystals']} --max-reference {config['explorer']['max_reference']}",
        title=config["explorer"]["title"],
        seed=config["seed"],
        page=hashlib.sha256(b"\0".join(file.read_bytes() for file in PAGE)).hexdigest()[:12],
        code=code("explorer"),
    shell:
        "python $SCRIPTS/explorer.py {params.layers} {params.curves} {params.limits} --title {params.title:q} "
        "--seed {params.seed} --cache results/explorer/positions --out {output} 2> {log:q}"


rule figures:
    """Draw distributions, energies and funnels of all sets."""
    input:
        expand("results/evaluate/{set}.{kind}", set=SHOWN, kind=["parquet", "json"]),
        expand("results/embeddings/{set}.parquet", set=SHOWN),
        expand("results/data/{dataset}/test.parquet", dataset=DATASETS),
        expand("results/embeddings/reference/{dataset}.parquet", dataset=DATASETS),
    output:
        report(
            expand("results/figures/{name}.svg", name=["distributions", "energy_above_hull", "funnel"]),
            category="Figures",
        ),
        expand("results/figures/{name}.png", name=["distributions", "energy_above_hull", "funnel"]),
    log:
        "logs/figures.log",
    benchmark:
        "logs/figures.tsv"
    conda:
        "../../envs/crystals.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        layers=plan.layers(with_samples=False),
        code=code("figures"),
    shell:
        "python $SCRIPTS/figures.py {params.layers} --out results/figures 2> {log:q}"
