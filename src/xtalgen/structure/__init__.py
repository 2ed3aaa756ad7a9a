"""Crystal structures: lattices, symmetry, Wyckoff positions, matching."""
