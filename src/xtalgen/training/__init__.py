"""Training of all models: contract, loop, optimiser, batches, checkpoints and logs."""
