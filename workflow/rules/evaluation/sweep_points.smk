"""Predictions for the validation split with each of the settings of a sweep."""


use rule sample as sweep_sample with:
    input:
        checkpoint=lambda wildcards: checkpoint_of(wildcards.run, "csp"),
        targets=lambda wildcards: plan.split(wildcards.run, "val"),
    output:
        "results/sweep/{run}/{point}.sample.parquet",
    log:
        "logs/sweep/{run}/{point}.sample.log",
    benchmark:
        "logs/sweep/{run}/{point}.sample.tsv"
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="4h",
    params:
        threads=THREADS,
        model=lambda wildcards: plan.model(wildcards.run),
        wanted=lambda wildcards: options(
            targets=plan.split(wildcards.run, "val"),
            limit=config["sample"]["validation"],
            prefix=f"{wildcards.run}-{wildcards.point}",
        ),
        settings=lambda wildcards: plan.at_point(wildcards.run, int(wildcards.point)),
        held=lambda wildcards: contents([plan.given(wildcards.run, "csp")]),
        chunk=config["sample"]["chunk"],
        seed=config["seed"],
        device=config["device"],
        work="results/sweep/{run}/work-{point}",
        code=lambda wildcards: code("sample", wildcards.run),


use rule evaluate as sweep_evaluate with:
    input:
        sample="results/sweep/{run}/{point}.sample.parquet",
        train=split_of("train"),
        test=split_of("val"),
    output:
        table="results/sweep/{run}/{point}.parquet",
        json="results/sweep/{run}/{point}.json",
    log:
        "logs/sweep/{run}/{point}.log",
    benchmark:
        "logs/sweep/{run}/{point}.tsv"
    params:
        set="{run}-{point}",
        task="csp",
        files=lambda wildcards, input: options(**{name: str(path) for name, path in input.items()}),
        recipe=RECIPE,
        work="results/sweep/{run}/work-{point}-evaluate",
        match_timeout=config["evaluate"]["match_timeout"],
        seed=config["seed"],
        code=code("evaluate"),
