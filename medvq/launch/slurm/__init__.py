"""Runs on a SLURM cluster: what is sent, how it is sent once, and what SLURM says of it."""
