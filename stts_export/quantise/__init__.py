"""Weights as whole numbers: how they are rounded, which of a model's are, and the model that they stand for."""
