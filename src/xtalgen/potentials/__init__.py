"""Machine-learned interatomic potentials: registry, loading, and evaluation of batches."""
