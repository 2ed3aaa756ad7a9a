"""Training of any model: the contract, the loop, its optimiser, batches, checkpoints and logs."""
