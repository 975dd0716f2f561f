"""The task `classify`: train a classifier with one label per image."""
