"""Relaxation of many crystals at once with a batched potential."""
