"""What people read: the tables, the learning curves, the best candidates as files."""


rule tables:
    """Print the tables from the metrics of all sets."""
    input:
        evaluations=expand("results/evaluate/{set}.json", set=plan.sets()),
        published=ROOT / "src/xtalgen/report/published.yaml",
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


rule second_potential:
    """Ask a second potential about the best crystals of a set; planned only where the configuration names one."""
    input:
        evaluated="results/evaluate/{set}.parquet",
        hull="results/hull/{set}.parquet",
    output:
        "results/second_potential/{set}.parquet",
    log:
        "logs/second_potential/{set}.log",
    benchmark:
        "logs/second_potential/{set}.tsv"
    conda:
        "../../envs/crystals.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="6h",
    params:
        potential=config["relax"]["second_potential"],
        most=config["tables"]["candidates"],
        timeout=config["relax"]["timeout"],
        device=config["device"],
        code=code("second_potential"),
    shell:
        "python $SCRIPTS/second_potential.py --evaluated {input.evaluated:q} --hull {input.hull:q} --potential {params.potential:q} "
        "--count {params.most} --timeout {params.timeout} --workers {threads} --device {params.device} "
        "--cache results/second_potential/cache --out {output:q} 2> {log:q}"


rule candidates:
    """Write the best crystals of a set as CIF and extxyz, with VASP inputs for the first."""
    input:
        evaluated="results/evaluate/{set}.parquet",
        known=split_of("train"),
        second=["results/second_potential/{set}.parquet"] if config["relax"]["second_potential"] else [],
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
        second=lambda wildcards, input: f"--second '{input.second}' " if input.second else "",
        code=code("candidates"),
    shell:
        "python $SCRIPTS/candidates.py --evaluated {input.evaluated:q} --name {wildcards.set:q} --known {input.known} "
        "{params.second}--count {params.most} --vasp {params.vasp} --out {output:q} 2> {log:q}"
