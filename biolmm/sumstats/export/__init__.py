"""Summary statistics as files of other programs' formats: GWAS-SSF, GWAS-VCF, Parquet, text with an index."""
