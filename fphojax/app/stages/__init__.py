"""The stages of a field, one function each: settings in, files and a `StageReport` out."""
