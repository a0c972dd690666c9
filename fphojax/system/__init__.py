"""Files, locks, processes and signals: what the program needs of the machine."""
