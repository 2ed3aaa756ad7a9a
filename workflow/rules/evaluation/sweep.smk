"""Comparison of sampling settings on the validation split."""


rule sweep:
    """Compare the points of a run's sweep."""
    input:
        lambda wildcards: plan.point_files(wildcards.run),
    output:
        page=report(update("results/sweep/{run}.md"), category="Sweeps"),
        csv=update("results/sweep/{run}.csv"),
        figure=report(update("results/sweep/{run}.svg"), category="Sweeps"),
    log:
        "logs/sweep/{run}.log",
    benchmark:
        "logs/sweep/{run}.tsv"
    conda:
        "../../../envs/crystals.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        points=lambda wildcards: [
            word
            for point, path in zip(plan.points(wildcards.run), plan.point_files(wildcards.run), strict=True)
            for word in ("--point", point, path)
        ],
        code=code("sweep"),
    shell:
        'python "$SCRIPTS/sweep.py" --run {wildcards.run} {params.points:q} --out {output.page:q} 2> {log:q}'
