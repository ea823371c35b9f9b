"""Packed genotypes to standardised tiles, and the operators Z and K made of them.

Legend: G (variants, samples) copies of ALT; Z standardised genotypes, missing = 0; K = ZᵀZ / m in this orientation.
"""
