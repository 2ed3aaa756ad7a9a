"""The stages of the workflow, one module per rule: each reads tables, calls the libraries below, and writes tables."""
