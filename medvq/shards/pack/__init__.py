"""Pack a source into a dataset: examine, lay out, write, publish."""
