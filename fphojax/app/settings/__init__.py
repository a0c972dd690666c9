"""Settings of a run: their schema, their YAML file, and what follows from them."""
