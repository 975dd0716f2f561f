"""Inside a SLURM job: its allocation, and one Ray over its nodes."""
