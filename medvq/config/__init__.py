"""Typed studies, recipes and profiles; identity; errors. Nothing here imports torch."""
