"""Networks and quantizers: tensors in, tensors out. Importing this package does not import torch."""
