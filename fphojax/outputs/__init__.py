"""Results of a run: their files, catalogues, tables and figures."""
