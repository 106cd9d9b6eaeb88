"""Measuring how fast the training step is, side by side with a peer."""
