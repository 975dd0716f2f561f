"""The task `autoencode`: train an autoencoder to reconstruct images."""
