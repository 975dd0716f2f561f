"""Finished runs as tables and figures."""
