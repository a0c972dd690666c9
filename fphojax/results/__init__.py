"""Results of fits: those of a patch, and the folder of a run with all of them."""
