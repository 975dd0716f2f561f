"""The stacked VQ-VAE (SVQ-VAE) with a classifier head."""
