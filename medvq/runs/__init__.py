"""The run folder: paths, plan, events, result, owner and state. Nothing here imports torch."""
