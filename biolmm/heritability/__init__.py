"""How much of a trait is genetic and shared with others: Haseman–Elston by blocks, liability, genetic correlation."""
