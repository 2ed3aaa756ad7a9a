"""Pairs of crystals and another run's predictions for them: what a model that refines that run's crystals learns from."""


rule refinement_pairs_predictions:
    """Predict structures for the compositions of a split with the run that another run starts from."""
    input:
        checkpoint=lambda wildcards: plan.checkpoint(plan.base(wildcards.run), "csp"),
        targets=lambda wildcards: plan.split(wildcards.run, wildcards.split),
    output:
        "results/refinement_pairs/{run}/predicted/{split}.parquet",
    log:
        "logs/refinement_pairs/{run}/{split}.predicted.log",
    benchmark:
        "logs/refinement_pairs/{run}/{split}.predicted.tsv"
    conda:
        "../../envs/models.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="1d",
    params:
        threads=THREADS,
        model=lambda wildcards: plan.model(plan.base(wildcards.run)),
        settings=lambda wildcards: plan.settings(plan.base(wildcards.run), "sample", "csp"),
        per_target=lambda wildcards: plan.runs[wildcards.run]["base_per_crystal"],
        chunk=config["sample"]["chunk"],
        seed=config["seed"],
        device=config["device"],
        code=lambda wildcards: code("sample", plan.base(wildcards.run)),
    shell:
        "{params.threads} python $SCRIPTS/sample.py --model {params.model} --checkpoint {input.checkpoint:q} --targets {input.targets} "
        "--per-target {params.per_target} --settings {params.settings:q} --chunk {params.chunk} --seed {params.seed} "
        "--device {params.device} --prefix {wildcards.run}-{wildcards.split} "
        "--work results/refinement_pairs/{wildcards.run}/predicted/work-{wildcards.split} --out {output} 2> {log}"


rule refinement_pairs:
    """Pair the crystals of a split with these predictions."""
    input:
        split=lambda wildcards: plan.split(wildcards.run, wildcards.split),
        predicted="results/refinement_pairs/{run}/predicted/{split}.parquet",
    output:
        "results/refinement_pairs/{run}/{split}.parquet",
    log:
        "logs/refinement_pairs/{run}/{split}.log",
    benchmark:
        "logs/refinement_pairs/{run}/{split}.tsv"
    conda:
        "../../envs/models.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("refinement_pairs"),
    shell:
        "python $SCRIPTS/refinement_pairs.py --split {input.split} --predicted {input.predicted} --out {output} 2> {log}"
