"""Crystals sampled from the models of the runs, shard by shard."""


rule sample:
    """Sample one shard of a run's crystals."""
    input:
        checkpoint=lambda wildcards: checkpoint_of(wildcards.run, wildcards.task),
        given=lambda wildcards: plan.sampled_from(wildcards.run, wildcards.task),
    output:
        "results/sample/{run}/{task}/{scatteritem}.parquet",
    log:
        "logs/sample/{run}/{task}/{scatteritem}.log",
    benchmark:
        "logs/sample/{run}/{task}/{scatteritem}.tsv"
    conda:
        "../../../envs/models.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="12h",
    params:
        threads=THREADS,
        model=lambda wildcards: plan.model(wildcards.run),
        wanted=lambda wildcards: options(
            **plan.asked_for(wildcards.run, wildcards.task),
            shard=wildcards.scatteritem,
            prefix=f"{wildcards.run}-{wildcards.task}",
        ),
        settings=lambda wildcards: plan.settings(wildcards.run, "sample", wildcards.task),
        held=lambda wildcards: contents([plan.given(wildcards.run, wildcards.task)]),
        chunk=config["sample"]["chunk"],
        seed=config["seed"],
        device=config["device"],
        work="results/sample/{run}/{task}/work-{scatteritem}",
        code=lambda wildcards: code("sample", wildcards.run),
    shell:
        '{params.threads} python "$SCRIPTS/sample.py" --model {params.model} --checkpoint {input.checkpoint:q} '
        "{params.wanted:q} --settings {params.settings:q} --chunk {params.chunk} --seed {params.seed} "
        "--device {params.device} --work {params.work:q} --out {output:q} 2> {log:q}"
