"""Metrics of sets of crystals: the registry, one module per family, and the contract of result files."""
