"""The best crystals of a set: energies by a second potential, and files for further work."""

SECOND = config["relax"]["second_potential"]


rule second_potential:
    """Evaluate the best crystals of a set with a second potential, if the configuration names one."""
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
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="6h",
    params:
        potential=lambda wildcards: options(potential=SECOND, timeout=config["relax"]["timeout"]),
        held=contents([SECOND]),
        most=config["tables"]["candidates"],
        device=config["device"],
        code=code("second_potential"),
    shell:
        'python "$SCRIPTS/second_potential.py" --evaluated {input.evaluated:q} --hull {input.hull:q} {params.potential:q} '
        "--count {params.most} --workers {threads} --device {params.device} "
        "--cache results/second_potential/cache --out {output:q} 2> {log:q}"


rule candidates:
    """Export the best crystals of a set as CIF and extxyz, with VASP inputs for the first."""
    input:
        evaluated="results/evaluate/{set}.parquet",
        known=split_of("train"),
        second=["results/second_potential/{set}.parquet"] if SECOND else [],
    output:
        update("results/candidates/{set}.zip"),
    log:
        "logs/candidates/{set}.log",
    benchmark:
        "logs/candidates/{set}.tsv"
    conda:
        "../../../envs/crystals.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        files=lambda wildcards, input: options(**{name: str(path) for name, path in input.items() if path}),
        most=config["tables"]["candidates"],
        vasp=config["tables"]["vasp"],
        code=code("candidates"),
    shell:
        'python "$SCRIPTS/candidates.py" {params.files:q} --name {wildcards.set:q} --count {params.most} '
        "--vasp {params.vasp} --out {output:q} 2> {log:q}"
