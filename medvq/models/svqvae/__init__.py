"""The stacked two-level VQ-VAE with a classifier head."""
