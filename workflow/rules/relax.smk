"""Relaxed crystals."""

POTENTIAL = (
    f"--potential {shlex.quote(config['relax']['potential'])} --fmax {config['relax']['fmax']} --timeout {config['relax']['timeout']} "
    + (f"--sha256 {config['relax']['sha256']} " if config["relax"]["sha256"] else "")
)


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
        "../../envs/crystals.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="12h",
    params:
        potential=POTENTIAL,
        max_steps=config["relax"]["max_steps"],
        work="results/relax/{set}/work-{scatteritem}",
        device=config["device"],
        code=code("relax"),
    shell:
        "python $SCRIPTS/relax.py --crystals {input:q} {params.potential} --max-steps {params.max_steps} "
        "--workers {threads} --device {params.device} "
        "--work {params.work:q} --out {output:q} 2> {log:q}"
