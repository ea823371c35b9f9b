"""The results directory: written part by part, read back with its own index, exported and summarised."""

from __future__ import annotations
