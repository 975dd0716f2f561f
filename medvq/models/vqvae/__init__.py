"""The VQ-VAE with one level and BatchNorm."""
