"""Figures (matplotlib), the report and the explorer of a run."""
