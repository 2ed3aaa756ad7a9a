"""What models that take prompts were asked for, against what they made."""


rule conditional:
    """Draw the properties asked for against those obtained."""
    input:
        evaluated="results/evaluate/{run}/conditional.parquet",
        metrics="results/evaluate/{run}/conditional.json",
    output:
        report("results/conditional/{run}.svg", category="Conditional generation"),
        "results/conditional/{run}.png",
    log:
        "logs/conditional/{run}.log",
    benchmark:
        "logs/conditional/{run}.tsv"
    conda:
        "../../envs/crystals.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("conditional"),
    shell:
        "python $SCRIPTS/conditional.py --evaluated {input.evaluated} --metrics {input.metrics} --out {output} 2> {log}"
