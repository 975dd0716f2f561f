"""Packing and verifying datasets on a cluster, with submitit."""
