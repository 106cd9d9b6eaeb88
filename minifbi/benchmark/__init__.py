"""Measuring how fast the training step is, side by side with a peer.

Every contender runs in a process of its own, so that nobody's threads spin while
another is timed, and they take turns in one run, so that a machine whose speed drifts
drifts for all.
"""
