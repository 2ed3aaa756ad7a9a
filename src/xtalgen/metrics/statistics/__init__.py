"""Confidence intervals of metrics, and tests of the difference between two sets."""
