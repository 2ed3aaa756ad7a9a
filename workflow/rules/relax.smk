"""Relaxed crystals, and the hull of the data set by the same potential."""

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


rule hull:
    """Evaluate the data set's crystals in a set's chemical systems with the potential that relaxed the set."""
    input:
        relaxed="results/relax/{set}.parquet",
        references=split_of(*SPLITS),
    output:
        "results/hull/{set}.parquet",
    log:
        "logs/hull/{set}.log",
    benchmark:
        "logs/hull/{set}.tsv"
    conda:
        "../../envs/crystals.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="12h",
    params:
        potential=POTENTIAL,
        steps=config["relax"]["reference_steps"],
        energies=config["relax"]["hull"],
        device=config["device"],
        code=code("hull"),
    shell:
        "python $SCRIPTS/hull.py --relaxed {input.relaxed:q} --references {input.references} {params.potential} "
        "--energies {params.energies} --relax-steps {params.steps} --workers {threads} --device {params.device} "
        "--cache results/hull/cache --out {output:q} 2> {log:q}"
