"""Crystals to be judged: samples of every run, and users' own structures. Also merges shards of any stage."""


def asked_for(wildcards):
    """Returns the arguments that say what to sample."""
    if wildcards.task == "dng":
        return f"--n {config['sample']['n']}"
    limit = config["sample"]["max_targets"]
    targets = f"--targets {split_of('test')(wildcards)} --per-target {config['sample']['per_target']}"
    return f"{targets} --limit {limit}" if limit else targets


rule sample:
    """Sample one shard of a run's crystals."""
    input:
        checkpoint=lambda wildcards: plan.checkpoint(wildcards.run, wildcards.task),
        targets=branch(lambda wildcards: wildcards.task == "csp", then=split_of("test"), otherwise=[]),
    output:
        "results/sample/{run}/{task}/{scatteritem}.parquet",
    params:
        model=lambda wildcards: plan.model(wildcards.run),
        wanted=asked_for,
        settings=lambda wildcards: plan.settings(wildcards.run, "sample", wildcards.task),
        chunk=config["sample"]["chunk"],
        seed=config["seed"],
        device=config["device"],
        code=lambda wildcards: code("sample", wildcards.run),
    log:
        "logs/sample/{run}/{task}/{scatteritem}.log",
    benchmark:
        "logs/sample/{run}/{task}/{scatteritem}.tsv"
    conda:
        "../../envs/models.yaml"
    threads: 2
    resources:
        gpu=1,
        mem_mb=16000,
        runtime="12h",
    shell:
        "python $SCRIPTS/sample.py --model {params.model} --checkpoint {input.checkpoint} {params.wanted} "
        "--settings {params.settings:q} --chunk {params.chunk} --seed {params.seed} --device {params.device} "
        "--shard {wildcards.scatteritem} --prefix {wildcards.run}-{wildcards.task} "
        "--work results/sample/{wildcards.run}/{wildcards.task}/work-{wildcards.scatteritem} --out {output} 2> {log}"


def own_file(wildcards):
    """Returns the user's file of a set; the first kind of file where there is none, so that the error names it."""
    found = sorted(Path("structures").glob(f"{wildcards.own}.*"))
    return str(found[0]) if found else f"structures/{wildcards.own}.extxyz"


rule import_structures:
    """Read a user's own structures into crystal tables, one per shard."""
    input:
        own_file,
    output:
        scatter.shards("results/sample/{{own}}/{scatteritem}.parquet"),
    params:
        code=code("import_structures"),
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
    shell:
        "python $SCRIPTS/import_structures.py --structures {input:q} --workers {threads} --out {output:q} 2> {log}"


rule merge:
    """Merge the shards of a stage into one table."""
    input:
        gather.shards("results/{{stage}}/{{set}}/{scatteritem}.parquet"),
    output:
        "results/{stage}/{set}.parquet",
    params:
        code=code("merge"),
    log:
        "logs/{stage}/{set}/merge.log",
    benchmark:
        "logs/{stage}/{set}/merge.tsv"
    conda:
        "../../envs/models.yaml"
    shell:
        "python $SCRIPTS/merge.py --parts {input:q} --out {output:q} 2> {log}"
