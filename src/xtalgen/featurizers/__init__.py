"""Descriptors of crystals: Voronoi cells, CrystalNN and Magpie fingerprints, bonds."""
