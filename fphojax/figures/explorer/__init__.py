"""The explorer of a run (ipywidgets)."""
