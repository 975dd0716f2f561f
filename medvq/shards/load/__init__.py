"""Read samples from a dataset in a reproducible order: views, readers, loader processes."""
