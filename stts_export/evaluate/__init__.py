"""Accuracy of a checkpoint or a bundle on questions with known answers."""
