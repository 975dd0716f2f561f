"""The single-level VQ-VAE with BatchNorm."""
