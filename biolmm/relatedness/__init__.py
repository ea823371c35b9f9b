"""Who is related to whom: the relatedness matrix in tiles, relatives, principal components."""
