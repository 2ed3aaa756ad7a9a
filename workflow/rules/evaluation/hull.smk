"""Competing phases: the data set by the same potential, or the Materials Project's phase diagram."""

# The user's file, which counts by content, or the downloaded one.
DIAGRAM = config["relax"]["phase_diagram"]
PHASE_DIAGRAM = (
    [ancient(DIAGRAM) if DIAGRAM else "results/hull/mp2020.json.gz"] if config["relax"]["hull"] == "mp2020" else []
)


rule phase_diagram:
    """Download the entries of the Materials Project, unless the configuration names a file of them."""
    output:
        "results/hull/mp2020.json.gz",
    log:
        "logs/hull/mp2020.log",
    benchmark:
        "logs/hull/mp2020.tsv"
    conda:
        "../../../envs/matbench.yaml"
    resources:
        mem_mb=32000,
        runtime="2h",
    params:
        code=code("phase_diagram"),
    shell:
        'python "$SCRIPTS/phase_diagram.py" --out {output:q} 2> {log:q}'


rule hull:
    """Evaluate the data set's crystals in a set's chemical systems with the potential that relaxed the set."""
    input:
        relaxed="results/relax/{set}.parquet",
        references=split_of(*SPLITS),
        phase_diagram=PHASE_DIAGRAM,
    output:
        "results/hull/{set}.parquet",
    log:
        "logs/hull/{set}.log",
    benchmark:
        "logs/hull/{set}.tsv"
    conda:
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="12h",
    params:
        potential=lambda wildcards: POTENTIAL,
        held=WEIGHTS + (contents([DIAGRAM]) if PHASE_DIAGRAM else []),
        energies=lambda wildcards: options(energies=config["relax"]["hull"], phase_diagram=[*map(str, PHASE_DIAGRAM)]),
        steps=config["relax"]["reference_steps"],
        device=config["device"],
        code=code("hull"),
    shell:
        'python "$SCRIPTS/hull.py" --relaxed {input.relaxed:q} --references {input.references:q} {params.potential:q} '
        "{params.energies:q} --relax-steps {params.steps} --workers {threads} --device {params.device} "
        "--cache results/hull/cache --out {output:q} 2> {log:q}"
