"""The store of harmonised summary statistics: variants × studies, as Zarr v3."""
