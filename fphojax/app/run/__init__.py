"""The run of all stages: their order, what is done already, notebooks and verdicts."""
