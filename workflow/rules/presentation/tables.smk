"""Tables and learning curves. A failed job leaves the earlier ones in place."""


rule tables:
    """Write the tables from the metrics of all sets."""
    input:
        expand("results/evaluate/{set}.json", set=plan.sets()),
    output:
        markdown=report(update("results/tables.md"), category="Tables"),
        csv=update("results/tables.csv"),
        text=update("results/tables.txt"),
    log:
        "logs/tables.log",
    benchmark:
        "logs/tables.tsv"
    conda:
        "../../../envs/crystals.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        published=options(published=config["tables"]["published"]),
        code=code("tables"),
    shell:
        'python "$SCRIPTS/tables.py" --evaluations {input:q} {params.published:q} --out {output.markdown:q} '
        "--csv {output.csv:q} --print > {output.text:q} 2> {log:q}"


rule curves:
    """Draw the learning curve of a training."""
    input:
        "results/train/{run}/{training}/log.csv",
    output:
        update("results/train/{run}/{training}/curve.svg"),
    log:
        "logs/curves/{run}/{training}.log",
    benchmark:
        "logs/curves/{run}/{training}.tsv"
    conda:
        "../../../envs/crystals.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("curves"),
    shell:
        'python "$SCRIPTS/curves.py" --log {input:q} --out {output:q} 2> {log:q}'
