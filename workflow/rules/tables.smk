"""What people read: the tables, the learning curves, the best candidates as files."""


rule tables:
    """Print the tables from the metrics of all sets."""
    input:
        evaluations=expand("results/evaluate/{set}.json", set=plan.sets()),
        published=ROOT / "src/xtalgen/published.yaml",
    output:
        markdown=report("results/tables.md", category="Tables"),
        csv="results/tables.csv",
        text="results/tables.txt",
    log:
        "logs/tables.log",
    benchmark:
        "logs/tables.tsv"
    conda:
        "../../envs/crystals.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        published="--published" if config["tables"]["published"] else "",
        code=code("tables"),
    shell:
        "python $SCRIPTS/tables.py --evaluations {input.evaluations:q} {params.published} --out {output.markdown} --csv {output.csv} "
        "--print > {output.text} 2> {log:q}"


rule curves:
    """Draw the learning curve of a training."""
    input:
        "results/train/{run}/{training}/log.csv",
    output:
        "results/train/{run}/{training}/curve.svg",
    log:
        "logs/curves/{run}/{training}.log",
    benchmark:
        "logs/curves/{run}/{training}.tsv"
    conda:
        "../../envs/crystals.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("curves"),
    shell:
        "python $SCRIPTS/curves.py --log {input} --out {output} 2> {log:q}"


rule candidates:
    """Write the best crystals of a set as CIF and extxyz, with VASP inputs for the first."""
    input:
        "results/evaluate/{set}.parquet",
    output:
        "results/candidates/{set}.zip",
    log:
        "logs/candidates/{set}.log",
    benchmark:
        "logs/candidates/{set}.tsv"
    conda:
        "../../envs/crystals.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        most=config["tables"]["candidates"],
        vasp=config["tables"]["vasp"],
        code=code("exports"),
    shell:
        "python $SCRIPTS/exports.py --evaluated {input:q} --count {params.most} --vasp {params.vasp} --out {output:q} 2> {log:q}"
