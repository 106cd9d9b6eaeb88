"""Fuzzing: wrong input of every kind, made from right input, by the hundred thousand.

``python tests/tools/fuzz --help`` says how to run it; the suite runs a few thousand inputs, in
``tests/robustness/test_fuzz.py``.

- :mod:`fuzz.mutators` changes an input at the level of its structure: a dimension in an IDX header,
  a value in the JSON of a checkpoint whose check sums are right, a flag of a command line.
- :mod:`fuzz.targets` feeds an input to a reader and lets the documented errors pass.
- :mod:`fuzz.commands` does the same with command lines, up to where the work would begin.
"""
