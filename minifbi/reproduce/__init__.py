"""Reproduce the paper: its figures and its table, further measures, and a verdict per claim.

``python -m minifbi.reproduce`` trains conventional and FBI networks and the baselines
over several seeds, measures them, and writes a report.  The parts, in the order in
which they are used:

===================  =============================================================
settings             the size of the reproduction: seeds, epochs, images
experiments          the plan: which runs, in which order, what they cost
store                trains each run once and measures it once, also after an interruption
matching             the L1 weight at which the mean activation equals FBI's
measuring            what is measured on a trained network
statistics           means over seeds, paired differences, confidence intervals
tables, figures      Table 1, the evaluation, the ablations; Fig. 1 to 3
claims, verdict      what the paper claims, and whether the numbers support it
document, report     report.md and report.html
===================  =============================================================
"""
