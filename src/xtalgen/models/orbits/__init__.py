"""Formula orbits: formulas, space groups and Wyckoff positions, one step at a time."""
