"""Whole fields: the superscene and the loop over patches."""
