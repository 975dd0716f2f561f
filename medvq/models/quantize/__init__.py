"""Quantizers, one file each; all return `Quantized` and are found by name in `medvq.registry.QUANTIZERS`."""
