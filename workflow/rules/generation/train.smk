"""Checkpoints of the model of each run, for each of its tasks."""


rule train:
    """Train a run's model; a killed training resumes from its work folder."""
    input:
        train=lambda wildcards: plan.training_table(wildcards.run, "train"),
        val=lambda wildcards: plan.training_table(wildcards.run, "val"),
    output:
        checkpoint="results/train/{run}/{training}/checkpoint.safetensors",
        log="results/train/{run}/{training}/log.csv",
        facts="results/train/{run}/{training}/training.json",
    log:
        "logs/train/{run}/{training}.log",
    benchmark:
        "logs/train/{run}/{training}.tsv"
    conda:
        "../../../envs/models.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="3d",
    params:
        threads=THREADS,
        model=lambda wildcards: plan.model(wildcards.run),
        settings=lambda wildcards: plan.settings(wildcards.run, "train", wildcards.training),
        held=lambda wildcards: contents(plan.files_in_settings(wildcards.run, "train", wildcards.training)),
        seed=config["seed"],
        device=config["device"],
        budget=lambda wildcards: options(max_seconds=plan.max_seconds(wildcards.run, wildcards.training)),
        out="results/train/{run}/{training}",
        code=lambda wildcards: code("train", wildcards.run),
        # One process per GPU. For more GPUs, set in the profile: set-resources: {train: {gpu: 4}}.
        python=lambda wildcards, resources: (
            f"python -m torch.distributed.run --standalone --nproc-per-node {resources.gpu}"
            if resources.gpu > 1
            else "python"
        ),
    shell:
        '{params.threads} {params.python} "$SCRIPTS/train.py" --model {params.model} --task {wildcards.training} '
        "--train {input.train:q} --val {input.val:q} --settings {params.settings:q} --seed {params.seed} "
        "--device {params.device} {params.budget:q} --work {params.out:q}/work --out {params.out:q} 2> {log:q}"
