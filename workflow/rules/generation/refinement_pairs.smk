"""Training pairs for models that refine another run's crystals: a crystal and the other run's prediction for it."""


use rule sample as refinement_pairs_predictions with:
    input:
        checkpoint=lambda wildcards: checkpoint_of(plan.base(wildcards.run), "csp"),
        targets=lambda wildcards: plan.split(wildcards.run, wildcards.split),
    output:
        "results/refinement_pairs/{run}/predicted/{split}.parquet",
    log:
        "logs/refinement_pairs/{run}/{split}.predicted.log",
    benchmark:
        "logs/refinement_pairs/{run}/{split}.predicted.tsv"
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="1d",
    params:
        threads=THREADS,
        model=lambda wildcards: plan.model(plan.base(wildcards.run)),
        wanted=lambda wildcards: options(
            targets=plan.split(wildcards.run, wildcards.split),
            per_target=plan.runs[wildcards.run]["base_per_crystal"],
            prefix=f"{wildcards.run}-{wildcards.split}",
        ),
        settings=lambda wildcards: plan.settings(plan.base(wildcards.run), "sample", "csp"),
        held=lambda wildcards: contents([plan.given(plan.base(wildcards.run), "csp")]),
        chunk=config["sample"]["chunk"],
        seed=config["seed"],
        device=config["device"],
        work="results/refinement_pairs/{run}/predicted/work-{split}",
        code=lambda wildcards: code("sample", plan.base(wildcards.run)),


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
        "../../../envs/models.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("refinement_pairs"),
    shell:
        'python "$SCRIPTS/refinement_pairs.py" --split {input.split:q} --predicted {input.predicted:q} --out {output:q} 2> {log:q}'
