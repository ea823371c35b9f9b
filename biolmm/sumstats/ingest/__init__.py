"""Reading summary statistics of any layout into checked, typed, sorted records."""
