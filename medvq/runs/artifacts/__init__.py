"""Files that a finished run leaves: figures, code maps, predictions."""
