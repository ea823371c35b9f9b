"""Variance components: spectral densities, the restricted likelihood over them, and the fit of every trait."""
