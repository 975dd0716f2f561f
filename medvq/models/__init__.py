"""Models and quantizers. Importing this package does not import torch."""
