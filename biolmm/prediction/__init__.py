"""Prediction: genetic values and SNP effects of a fitted model, other people's scores, and how accurate they are."""
