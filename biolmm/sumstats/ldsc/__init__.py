"""LD score regression: heritability, confounding, genetic correlation, enrichment of annotations."""
