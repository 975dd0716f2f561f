"""Metrics as pure functions of arrays and tensors. Importing this package does not import torch."""
