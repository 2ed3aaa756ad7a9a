"""The tasks, and the metrics of each: one module per task.

Labels, units and definitions are in `registry`, so that rewording one of them evaluates no set again.
"""

# Tasks whose crystals are judged as a set, then all whose crystals are judged at all.
GENERATION = ("dng", "own")
JUDGED = (*GENERATION, "csp", "conditional")
EVERY_TASK = (*JUDGED, "infilling")
