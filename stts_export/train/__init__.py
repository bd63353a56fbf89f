"""Training: examples, loss, stages; produces a checkpoint, knows nothing of export."""
