"""Measure how fast the training step is, side by side with a peer.

Every contender runs in its own process, so that its threads do not run while another is timed.
The contenders take turns, so that a change of the machine's speed affects all of them.
"""
