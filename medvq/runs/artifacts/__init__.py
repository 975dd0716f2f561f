"""Files that a finished run writes: figures, code maps, predictions."""
