"""Figures: distributions, energies and funnels of all sets, and requested against obtained attributes."""

FIGURES = ("distributions", "energy_above_hull", "funnel")


rule figures:
    """Draw distributions, energies and funnels of all sets."""
    input:
        DRAWN,
    output:
        report(update(expand("results/figures/{name}.svg", name=FIGURES)), category="Figures"),
        update(expand("results/figures/{name}.png", name=FIGURES)),
    log:
        "logs/figures.log",
    benchmark:
        "logs/figures.tsv"
    conda:
        "../../../envs/crystals.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        layers=layers(SHOWN, DATASETS, sample="-"),
        code=code("figures"),
    shell:
        'python "$SCRIPTS/figures.py" {params.layers:q} --out results/figures 2> {log:q}'


rule conditional:
    """Draw requested against obtained attributes of a run."""
    input:
        evaluated="results/evaluate/{run}/conditional.parquet",
        metrics="results/evaluate/{run}/conditional.json",
    output:
        report(update("results/conditional/{run}.svg"), category="Conditional generation"),
        update("results/conditional/{run}.png"),
    log:
        "logs/conditional/{run}.log",
    benchmark:
        "logs/conditional/{run}.tsv"
    conda:
        "../../../envs/crystals.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("conditional"),
    shell:
        'python "$SCRIPTS/conditional.py" --evaluated {input.evaluated:q} --metrics {input.metrics:q} --out {output:q} 2> {log:q}'
