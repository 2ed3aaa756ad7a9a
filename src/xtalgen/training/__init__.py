"""Training of any model: the loop, its optimiser, batches, checkpoints and logs."""
