"""The task `probe`: classify frozen codes with a linear or nearest-neighbour probe."""
