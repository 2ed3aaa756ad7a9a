"""Settings of sampling, tried on the validation split."""


rule sweep_sample:
    """Predict validation crystals with the settings of one point of a run's sweep."""
    input:
        checkpoint=lambda wildcards: plan.checkpoint(wildcards.run, "csp"),
        targets=lambda wildcards: plan.split(wildcards.run, "val"),
    output:
        "results/sweep/{run}/{point}.sample.parquet",
    log:
        "logs/sweep/{run}/{point}.sample.log",
    benchmark:
        "logs/sweep/{run}/{point}.sample.tsv"
    conda:
        "../../envs/models.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="4h",
    params:
        threads=THREADS,
        model=lambda wildcards: plan.model(wildcards.run),
        settings=lambda wildcards: plan.at_point(wildcards.run, int(wildcards.point)),
        limit=config["sample"]["validation"],
        chunk=config["sample"]["chunk"],
        seed=config["seed"],
        device=config["device"],
        code=lambda wildcards: code("sample", wildcards.run),
    shell:
        "{params.threads} python $SCRIPTS/sample.py --model {params.model} --checkpoint {input.checkpoint} --targets {input.targets} "
        "--limit {params.limit} --settings {params.settings:q} --chunk {params.chunk} --seed {params.seed} "
        "--device {params.device} --prefix {wildcards.run}-{wildcards.point} "
        "--work results/sweep/{wildcards.run}/work-{wildcards.point} --out {output} 2> {log}"


rule sweep_evaluate:
    """Compare these predictions with the validation crystals."""
    input:
        sample="results/sweep/{run}/{point}.sample.parquet",
        train=split_of("train"),
        val=split_of("val"),
    output:
        table="results/sweep/{run}/{point}.parquet",
        json="results/sweep/{run}/{point}.json",
    log:
        "logs/sweep/{run}/{point}.log",
    benchmark:
        "logs/sweep/{run}/{point}.tsv"
    conda:
        "../../envs/crystals.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime="2h",
    params:
        recipe=RECIPE,
        match_timeout=config["evaluate"]["match_timeout"],
        seed=config["seed"],
        code=code("evaluate"),
    shell:
        "python $SCRIPTS/evaluate.py --task csp --set {wildcards.run}-{wildcards.point} --sample {input.sample} "
        "--train {input.train} --test {input.val} {params.recipe} --match-timeout {params.match_timeout} "
        "--seed {params.seed} --workers {threads} --work results/sweep/{wildcards.run}/work-{wildcards.point}-evaluate "
        "--out-table {output.table} --out-json {output.json} 2> {log}"


rule sweep:
    """Compare the points of a run's sweep."""
    input:
        lambda wildcards: [f"results/sweep/{wildcards.run}/{i}.json" for i in range(len(plan.points(wildcards.run)))],
    output:
        page=report("results/sweep/{run}.md", category="Sweeps"),
        csv="results/sweep/{run}.csv",
        figure=report("results/sweep/{run}.svg", category="Sweeps"),
    log:
        "logs/sweep/{run}.log",
    benchmark:
        "logs/sweep/{run}.tsv"
    conda:
        "../../envs/crystals.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        points=lambda wildcards, input: " ".join(
            f"--point '{point}' {path}" for point, path in zip(plan.points(wildcards.run), input, strict=True)
        ),
        code=code("sweep"),
    shell:
        "python $SCRIPTS/sweep.py --run {wildcards.run} {params.points} --out {output.page} 2> {log}"
