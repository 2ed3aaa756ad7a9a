"""Names that the configuration, the stages, the metrics and the models share. Imports nothing."""

# Tasks for which models are trained. "dng": de novo generation; "csp": crystal structure prediction.
TRAINED_TASKS = ("dng", "csp")
# Further tasks of models that take prompts.
PROMPTED_TASKS = ("conditional", "infilling")
TASKS = (*TRAINED_TASKS, *PROMPTED_TASKS)
# Tasks whose crystals are judged as a set, relaxed and shown on the map; the others are judged target by target.
# "own": structures of a user.
GENERATION = ("dng", "own")
# The task of a training whose one checkpoint serves all tasks.
SHARED = "shared"
SPLITS = ("train", "val", "test")
# Attributes whose obtained values need relaxed energies and a hull.
ENERGIES = ("e_form_per_atom", "e_above_hull")
