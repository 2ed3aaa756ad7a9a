"""Neural networks on crystals, and the graphs and basis functions they are built from."""
