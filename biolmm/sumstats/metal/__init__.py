"""METAL's scripts: its language, a plan that is checked before anything is read, and its tables.

METAL (Willer, Li & Abecasis 2010, 10.1093/bioinformatics/btq340) is the program; here are its language and its formulas, as
documented and observed, in code of our own. `script.read_script` makes a plan, `run.run_plan` carries it out.
"""
