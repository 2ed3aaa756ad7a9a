"""Scores: every metric of a set."""

RECIPE = options(**{key: config["evaluate"][key] for key in ("recipe", "stable_below", "metastable_below")})


rule evaluate:
    """Compute every metric of a set, and the verdicts per crystal."""
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
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime="12h",
    params:
        set="{set}",
        task=lambda wildcards: plan.task(wildcards.set),
        files=lambda wildcards, input: options(**{name: str(path) for name, path in input.items() if path}),
        recipe=RECIPE,
        work="results/evaluate/{set}-work",
        match_timeout=config["evaluate"]["match_timeout"],
        seed=config["seed"],
        code=code("evaluate"),
    shell:
        'python "$SCRIPTS/evaluate.py" --task {params.task} --set {params.set:q} {params.files:q} {params.recipe:q} '
        "--match-timeout {params.match_timeout} --seed {params.seed} --workers {threads} --work {params.work:q} "
        "--out-table {output.table:q} --out-json {output.json:q} 2> {log:q}"
