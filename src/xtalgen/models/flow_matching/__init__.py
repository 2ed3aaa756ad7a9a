"""Flows and stochastic interpolants from noise to crystals."""
