"""Video question answering with ground truth: clips generated from seeds, questions, and how both are read."""
