"""The task `autoencode`: train a model to reconstruct images from codes."""
