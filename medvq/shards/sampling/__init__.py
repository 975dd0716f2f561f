"""Decide splits, subsets, and the order of samples in every epoch. Pure functions."""
