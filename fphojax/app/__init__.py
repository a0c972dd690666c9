"""Settings, pipeline and command line."""
