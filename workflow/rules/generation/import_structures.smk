"""Crystals that come as files: users' own, and samples that models' authors released. Also merges shards of any stage."""

from snakemake.exceptions import WorkflowError

from xtalgen.experiment.released_sets import check_within_reach


rule import_structures:
    """Read a user's own structures, or released samples, into crystal tables, one per shard."""
    input:
        lambda wildcards: [ancient(file) for file in plan.structures(wildcards.own)],
    output:
        scatter.shards("results/sample/{{own}}/{scatteritem}.parquet"),
    log:
        "logs/sample/{own}/import.log",
    benchmark:
        "logs/sample/{own}/import.tsv"
    conda:
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        file=lambda wildcards, input: options(structures=list(map(str, input)), released=plan.release(wildcards.own)),
        held=lambda wildcards: contents(plan.structures(wildcards.own)),
        code=code("import_structures"),
    shell:
        'python "$SCRIPTS/import_structures.py" {params.file:q} --workers {threads} --out {output:q} 2> {log:q}'


onstart:
    # Released samples are fetched in seconds, and all else takes hours: whether they are there is found out first.
    needed = [job for job in workflow.dag.needrun_jobs() if job.rule.name == "import_structures"]
    try:
        check_within_reach(plan.released, [job.wildcards.own for job in needed])
    except RuntimeError as error:
        raise WorkflowError(str(error)) from None


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
        "../../../envs/models.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("merge"),
    shell:
        'python "$SCRIPTS/merge.py" --parts {input:q} --out {output:q} 2> {log:q}'
