"""Packed datasets: a source tree becomes shards, and shards become batches."""
