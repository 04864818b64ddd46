"""How a network learns: batches, optimizers, the loop, the sweep of learning rates, checkpoints."""
