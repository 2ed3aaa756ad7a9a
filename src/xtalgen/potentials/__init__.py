"""Machine-learned interatomic potentials: which there are, how they load, and how they evaluate batches."""
