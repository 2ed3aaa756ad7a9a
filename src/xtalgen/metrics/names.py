"""The tasks and the tolerance of energies: what evaluation shares with the registry.

Labels, units and definitions are in `registry`, so that rewording one of them evaluates no set again.
"""

# eV/atom. A relaxation that ends at 0.05 eV/Å leaves an energy undecided by about this much: copies of crystals on the
# hull, relaxed again from a strained start, end 1e-5 above it, and "at most 0" must not turn on that.
TOLERANCE = 1e-4

GENERATION = ("dng", "own")
JUDGED = ("dng", "own", "csp", "conditional")
EVERY_TASK = (*JUDGED, "infilling")
