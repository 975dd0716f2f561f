"""Studies, recipes and profiles as typed settings, and identities of runs. Nothing here imports torch."""
