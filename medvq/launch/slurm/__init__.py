"""Runs on a SLURM cluster: what is sent, how it is sent once, Ray inside an allocation, and what SLURM says of it."""
