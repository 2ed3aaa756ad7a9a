"""Scores: fingerprints of samples and of the test split, and every metric of a set."""

RECIPE = f"--recipe {config['evaluate']['recipe']}" + "".join(
    f" --{key.replace('_', '-')} {config['evaluate'][key]}"
    for key in ("stable_below", "metastable_below")
    if config["evaluate"][key] is not None
)
FINGERPRINTS = f"--timeout {config['evaluate']['fingerprint_timeout']}"


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
        "../../envs/crystals.yaml"
    threads: 2
    resources:
        mem_mb=6000,
        runtime="6h",
    params:
        settings=FINGERPRINTS,
        work="results/fingerprints/{set}/work-{scatteritem}",
        code=code("fingerprints"),
    shell:
        "python $SCRIPTS/fingerprints.py --crystals {input:q} {params.settings} --workers {threads} "
        "--work {params.work:q} --out {output:q} 2> {log:q}"


rule fingerprints_reference:
    """Fingerprint the test split of a data set, once for all sets."""
    input:
        "results/data/{dataset}/test.parquet",
    output:
        "results/fingerprints/reference/{dataset}.parquet",
    log:
        "logs/fingerprints/reference/{dataset}.log",
    benchmark:
        "logs/fingerprints/reference/{dataset}.tsv"
    conda:
        "../../envs/crystals.yaml"
    threads: 2
    resources:
        mem_mb=6000,
        runtime="12h",
    params:
        settings=FINGERPRINTS,
        limit=(f"--limit {config['evaluate']['max_reference']}" if config["evaluate"]["max_reference"] else ""),
        seed=config["seed"],
        code=code("fingerprints"),
    shell:
        "python $SCRIPTS/fingerprints.py --crystals {input} {params.settings} {params.limit} --seed {params.seed} "
        "--workers {threads} --work results/fingerprints/reference/work-{wildcards.dataset} --out {output} 2> {log:q}"


rule evaluate:
    """Compute every metric of a set, with the verdicts crystal by crystal."""
    input:
        sample="results/sample/{set}.parquet",
        train=split_of("train"),
        test=split_of("test"),
        val=branch(is_generated, then=split_of("val"), otherwise=[]),
        fingerprints=branch(is_generated, then="results/fingerprints/{set}.parquet", otherwise=[]),
        reference_fingerprints=branch(
            is_generated,
            then=lambda wildcards: f"results/fingerprints/reference/{plan.dataset(wildcards.set)}.parquet",
            otherwise=[],
        ),
        relaxed=branch(is_relaxed, then="results/relax/{set}.parquet", otherwise=[]),
        hull=branch(is_relaxed, then="results/hull/{set}.parquet", otherwise=[]),
        training=lambda wildcards: plan.facts(wildcards.set),
    output:
        table="results/evaluate/{set}.parquet",
        json="results/evaluate/{set}.json",
    log:
        "logs/evaluate/{set}.log",
    benchmark:
        "logs/evaluate/{set}.tsv"
    conda:
        "../../envs/crystals.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime="12h",
    params:
        task=lambda wildcards: plan.task(wildcards.set),
        optional=lambda wildcards, input: " ".join(
            f"--{name.replace('_', '-')} {shlex.quote(str(path))}"
            for name, path in input.items()
            if path and name not in ("sample", "train", "test")
        ),
        recipe=RECIPE,
        work="results/evaluate/{set}-work",
        match_timeout=config["evaluate"]["match_timeout"],
        seed=config["seed"],
        code=code("evaluate"),
    shell:
        "python $SCRIPTS/evaluate.py --task {params.task} --set {wildcards.set:q} --sample {input.sample:q} "
        "--train {input.train} --test {input.test} {params.optional} {params.recipe} "
        "--match-timeout {params.match_timeout} --seed {params.seed} "
        "--workers {threads} --work {params.work:q} --out-table {output.table:q} --out-json {output.json:q} 2> {log:q}"
