"""Labels for distilling a potential into a small MACE. Optional: only results/distil/card.md needs them."""

import json

TEACHER = config["distil"]["teacher"]
RECIPE_OF_MACE = json.dumps(config["distil"]["train"], sort_keys=True)


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
        "../../../envs/crystals.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime="12h",
    params:
        teacher=lambda wildcards: TEACHER,
        held=contents([TEACHER]),
        size=options(crystals=config["distil"]["crystals"], distorted=config["distil"]["distorted"]),
        seed=config["seed"],
        device=config["device"],
        work="results/distil/work-{scatteritem}",
        code=code("distil"),
    shell:
        'python "$SCRIPTS/distil.py" --tables {input:q} {params.size:q} --teacher {params.teacher:q} --seed {params.seed} '
        "--shard {wildcards.scatteritem} --workers {threads} --device {params.device} "
        "--work {params.work:q} --out {output:q} 2> {log:q}"
