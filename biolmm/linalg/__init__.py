"""Operators, Krylov solvers and quadrature; nothing here knows genetics.

Every algorithm sees a `matmat`: a function that takes a block of columns (n, r) to a block of the same shape.
Columns are independent of each other, and what an algorithm returns for one column never depends on which others it
was batched with.
"""
