"""Summary statistics of association studies: harmonise, check, meta-analyse, regress on LD."""
