"""Relaxed crystals."""

POTENTIAL = options(**{key: config["relax"][key] for key in ("potential", "sha256", "fmax", "timeout")})
FIRST = options(max_crystals=config["relax"]["max_crystals"])
# The weights, if the configuration names a file.
WEIGHTS = contents([config["relax"]["potential"]])


rule relax:
    """Relax one shard of a set's crystals and cells."""
    input:
        "results/sample/{set}/{scatteritem}.parquet",
    output:
        "results/relax/{set}/{scatteritem}.parquet",
    log:
        "logs/relax/{set}/{scatteritem}.log",
    benchmark:
        "logs/relax/{set}/{scatteritem}.tsv"
    conda:
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="12h",
    params:
        potential=lambda wildcards: POTENTIAL,
        held=WEIGHTS,
        first=lambda wildcards: FIRST if is_generated(wildcards) else [],
        max_steps=config["relax"]["max_steps"],
        work="results/relax/{set}/work-{scatteritem}",
        device=config["device"],
        code=code("relax"),
    shell:
        'python "$SCRIPTS/relax.py" --crystals {input:q} {params.potential:q} {params.first} --max-steps {params.max_steps} '
        "--workers {threads} --device {params.device} --work {params.work:q} --out {output:q} 2> {log:q}"
