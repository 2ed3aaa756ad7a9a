"""The distilled MACE and its model card."""


rule distil_training:
    """Train the small MACE on all labels with mace-torch's program."""
    input:
        gather.shards("results/distil/labels/{scatteritem}.parquet"),
    output:
        "results/distil/model.safetensors",
    log:
        "logs/distil/training.log",
    benchmark:
        "logs/distil/training.tsv"
    conda:
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=32000,
        runtime="1d",
    params:
        recipe=lambda wildcards: RECIPE_OF_MACE,
        seed=config["seed"],
        device=config["device"],
        code=code("distil_training"),
    shell:
        'python "$SCRIPTS/distil_training.py" --labels {input:q} --recipe {params.recipe:q} --seed {params.seed} '
        "--device {params.device} --work results/distil/training --out {output:q} 2> {log:q}"


rule distil_card:
    """Test the small MACE on crystals of the test split, against the teacher and DFT."""
    input:
        model="results/distil/model.safetensors",
        test=f"results/data/{plan.distilled}/test.parquet",
        known=rules.distil.input,
    output:
        json="results/distil/card.json",
        markdown="results/distil/card.md",
    log:
        "logs/distil/card.log",
    benchmark:
        "logs/distil/card.tsv"
    conda:
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="12h",
    params:
        teacher=lambda wildcards: TEACHER,
        held=contents([TEACHER]),
        seed=config["seed"],
        device=config["device"],
        code=code("distil_card"),
    shell:
        'python "$SCRIPTS/distil_card.py" --model {input.model:q} --teacher {params.teacher:q} --test {input.test:q} '
        "--known {input.known:q} --seed {params.seed} --workers {threads} --device {params.device} "
        "--work results/distil/card-work --out-json {output.json:q} --out-markdown {output.markdown:q} 2> {log:q}"
