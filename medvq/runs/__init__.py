"""The records of runs on disk: plans, run folders, events, owners and states. Nothing here imports torch."""
