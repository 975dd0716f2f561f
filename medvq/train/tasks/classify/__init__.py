"""The task `classify`: predict one label per image."""
