"""Quality control of summary statistics before meta-analysis: measured in passes over a store, judged, written as pages."""
