"""Convex hulls: energies above the hull, phase diagrams and their corrections."""
