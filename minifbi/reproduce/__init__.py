"""The paper made again: its figures and its table, what it leaves out, and a verdict.

``python -m minifbi.reproduce`` trains conventional and FBI networks and the baselines
over several seeds, measures them, and writes a report.  The parts, in the order in
which they are used:

===================  =============================================================
settings             how large the whole is to be: seeds, epochs, images
experiments          the plan: which runs, in which order, what they cost
store                a run is trained once, a measure is taken once, whatever happens
matching             the L1 weight at which the mean activation equals FBI's
measuring            what is measured on a trained network
statistics           means over seeds, paired differences, confidence intervals
tables, figures      Table 1, the evaluation, the ablations; Fig. 1 to 3
claims, verdict      what the paper claims, and whether the numbers say so
document, report     report.md and report.html
===================  =============================================================
"""
