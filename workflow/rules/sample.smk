"""Crystals to be judged: samples of every run, and users' own structures. Also merges shards of any stage."""


rule sample:
    """Sample one shard of a run's crystals."""
    input:
        checkpoint=lambda wildcards: plan.checkpoint(wildcards.run, wildcards.task),
        given=lambda wildcards: plan.sampled_from(wildcards.run, wildcards.task),
    output:
        "results/sample/{run}/{task}/{scatteritem}.parquet",
    log:
        "logs/sample/{run}/{task}/{scatteritem}.log",
    benchmark:
        "logs/sample/{run}/{task}/{scatteritem}.tsv"
    conda:
        "../../envs/models.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="12h",
    params:
        threads=THREADS,
        model=lambda wildcards: plan.model(wildcards.run),
        wanted=lambda wildcards: plan.asked_for(wildcards.run, wildcards.task),
        settings=lambda wildcards: plan.settings(wildcards.run, "sample", wildcards.task),
        chunk=config["sample"]["chunk"],
        seed=config["seed"],
        device=config["device"],
        code=lambda wildcards: code("sample", wildcards.run),
    shell:
        "{params.threads} python $SCRIPTS/sample.py --model {params.model} --checkpoint {input.checkpoint:q} {params.wanted} "
        "--settings {params.settings:q} --chunk {params.chunk} --seed {params.seed} --device {params.device} "
        "--shard {wildcards.scatteritem} --prefix {wildcards.run}-{wildcards.task} "
        "--work results/sample/{wildcards.run}/{wildcards.task}/work-{wildcards.scatteritem} --out {output} 2> {log:q}"


rule import_structures:
    """Read a user's own structures into crystal tables, one per shard."""
    input:
        lambda wildcards: own_file(Path("structures"), wildcards.own),
    output:
        scatter.shards("results/sample/{{own}}/{scatteritem}.parquet"),
    log:
        "logs/sample/{own}/import.log",
    benchmark:
        "logs/sample/{own}/import.tsv"
    conda:
        "../../envs/crystals.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code("import_structures"),
    shell:
        "python $SCRIPTS/import_structures.py --structures {input:q} --workers {threads} --out {output:q} 2> {log:q}"


rule merge:
    """Merge the shards of a stage into one table."""
    input:
        gather.shards("results/{{stage}}/{{set}}/{scatteritem}.parquet"),
    output:
        "results/{stage}/{set}.parquet",
    log:
        "logs/{stage}/{set}/merge.log",
    benchmark:
        "logs/{stage}/{set}/merge.tsv"
    conda:
        "../../envs/models.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("merge"),
    shell:
        "python $SCRIPTS/merge.py --parts {input:q} --out {output:q} 2> {log:q}"
