"""Linear mixed models for biobank-scale genotypes."""
