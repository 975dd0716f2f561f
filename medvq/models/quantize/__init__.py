"""Quantizers, one file each. `medvq.registry.QUANTIZERS` finds them by name."""
