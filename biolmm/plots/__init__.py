"""Figures of a mixed-model analysis: functions that take tables and return matplotlib figures."""

from __future__ import annotations
