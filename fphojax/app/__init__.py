"""Settings, stages, runs of stages, and the command line."""
