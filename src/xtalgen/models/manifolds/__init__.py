"""Manifolds of crystals: the torus of fractional coordinates, lattices, and the state of a batch."""
