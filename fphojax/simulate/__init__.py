"""Mock exposures and fields with known truth, and studies of how well fits recover it."""
