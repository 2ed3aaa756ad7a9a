"""Pairs of crystals and another run's predictions for them: what a model that refines that run's crystals learns from."""


rule base_predictions:
    """Predict structures for the compositions of a split with the run that another run starts from."""
    input:
        checkpoint=lambda wildcards: plan.checkpoint(plan.base(wildcards.run), "csp"),
        targets=lambda wildcards: plan.split(wildcards.run, wildcards.split),
    output:
        "results/base/{run}/predicted/{split}.parquet",
    log:
        "logs/base/{run}/{split}.predicted.log",
    benchmark:
        "logs/base/{run}/{split}.predicted.tsv"
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
        "--work results/base/{wildcards.run}/predicted/work-{wildcards.split} --out {output} 2> {log}"


rule base:
    """Pair the crystals of a split with these predictions."""
    input:
        split=lambda wildcards: plan.split(wildcards.run, wildcards.split),
        predicted="results/base/{run}/predicted/{split}.parquet",
    output:
        "results/base/{run}/{split}.parquet",
    log:
        "logs/base/{run}/{split}.log",
    benchmark:
        "logs/base/{run}/{split}.tsv"
    conda:
        "../../envs/models.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("base"),
    shell:
        "python $SCRIPTS/base.py --split {input.split} --predicted {input.predicted} --out {output} 2> {log}"
