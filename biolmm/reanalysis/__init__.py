"""Releases of an analysis: each takes over from the last what has not changed, computes the rest, and says what differs.

Results are computed in *pieces*, folders of ordinary results in `OUT/pieces/`, named by a hash of everything that they
depend on. A release links the parts of the pieces that it is made of into a folder of its own.
"""
