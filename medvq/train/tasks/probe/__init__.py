"""The task `probe`: classify frozen codes with a linear and a nearest-neighbour classifier."""
