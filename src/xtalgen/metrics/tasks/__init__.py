"""The tasks, and the metrics of each: one module per task.

Labels, units and definitions are in `registry`, so that rewording one of them evaluates no set again.
"""

from xtalgen.runtime.names import GENERATION

# Every task that can be evaluated.
JUDGED = (*GENERATION, "csp", "conditional")
EVERY_TASK = (*JUDGED, "infilling")
