"""The spaces that crystals live in: the torus of fractional coordinates and the cone of lattices."""
