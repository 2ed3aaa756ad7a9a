"""xtalgen: train, sample, relax, score and show generative models of inorganic crystals."""

from snakemake.utils import min_version

min_version("9.0")


# What all rules share, then the rules in the order of the work: rule X is in X.smk, beside the rules it belongs with.
include: "workflow/rules/shared/config.smk"


configfile: "config.yaml"


include: "workflow/rules/shared/common.smk"
include: "workflow/rules/shared/jobs.smk"
include: "workflow/rules/data/data.smk"
include: "workflow/rules/data/columns.smk"
include: "workflow/rules/generation/train.smk"
include: "workflow/rules/generation/sample.smk"
include: "workflow/rules/generation/import_structures.smk"
include: "workflow/rules/generation/refinement_pairs.smk"
include: "workflow/rules/evaluation/relax.smk"
include: "workflow/rules/evaluation/hull.smk"
include: "workflow/rules/evaluation/fingerprints.smk"
include: "workflow/rules/evaluation/evaluate.smk"
include: "workflow/rules/evaluation/sweep_points.smk"
include: "workflow/rules/evaluation/sweep.smk"
include: "workflow/rules/presentation/tables.smk"
include: "workflow/rules/presentation/candidates.smk"
include: "workflow/rules/presentation/embeddings.smk"
include: "workflow/rules/presentation/explorer.smk"
include: "workflow/rules/presentation/figures.smk"
include: "workflow/rules/distillation/distil.smk"
include: "workflow/rules/distillation/distil_training.smk"


# Seconds of work on one small file: not worth a job of their own.
localrules:
    all,
    merge,
    tables,


rule all:
    """Everything the experiment makes."""
    default_target: True
    input:
        "results/tables.md",
        "results/explorer.html",
        "results/figures/distributions.svg",
        expand("results/train/{training}/curve.svg", training=plan.trained()),
        expand("results/sweep/{run}.md", run=plan.swept()),
        expand("results/conditional/{run}.svg", run=plan.conditional()),
        expand(
            "results/candidates/{set}.zip",
            set=plan.generated(),
        ),
