"""A small MACE that learns from a larger potential: optional, ask for results/distil/card.md. Nothing else needs it."""

import json


rule distil:
    """Label a share of the crystals and their distortions with the teacher."""
    input:
        [f"results/data/{plan.distilled}/{split}.parquet" for split in ("train", "val")],
    output:
        "results/distil/labels/{scatteritem}.parquet",
    log:
        "logs/distil/labels/{scatteritem}.log",
    benchmark:
        "logs/distil/labels/{scatteritem}.tsv"
    conda:
        "../../envs/crystals.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="12h",
    params:
        teacher=config["distil"]["teacher"],
        size=f"--crystals {config['distil']['crystals']} --distorted {config['distil']['distorted']}",
        seed=config["seed"],
        device=config["device"],
        code=code("distil"),
    shell:
        "python $SCRIPTS/distil.py --tables {input} {params.size} --teacher {params.teacher:q} --seed {params.seed} "
        "--shard {wildcards.scatteritem} --workers {threads} --device {params.device} "
        "--work results/distil/work-{wildcards.scatteritem} --out {output} 2> {log}"


rule distil_training:
    """Train the small MACE on all labels, with mace-torch's own program."""
    input:
        gather.shards("results/distil/labels/{scatteritem}.parquet"),
    output:
        "results/distil/model.safetensors",
    log:
        "logs/distil/training.log",
    benchmark:
        "logs/distil/training.tsv"
    conda:
        "../../envs/crystals.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=32000,
        runtime="1d",
    params:
        recipe=json.dumps(config["distil"]["train"], sort_keys=True),
        seed=config["seed"],
        device=config["device"],
        code=code("distil_training"),
    shell:
        "python $SCRIPTS/distil_training.py --labels {input} --recipe {params.recipe:q} --seed {params.seed} "
        "--device {params.device} --work results/distil/training --out {output} 2> {log}"


rule distil_card:
    """Test it on crystals of the test split, against the teacher and against DFT."""
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
        "../../envs/crystals.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="12h",
    params:
        teacher=config["distil"]["teacher"],
        seed=config["seed"],
        device=config["device"],
        code=code("distil_card"),
    shell:
        "python $SCRIPTS/distil_card.py --model {input.model} --teacher {params.teacher:q} --test {input.test} "
        "--known {input.known} --seed {params.seed} --workers {threads} --device {params.device} "
        "--work results/distil/card-work --out-json {output.json} --out-markdown {output.markdown} 2> {log}"
