"""Draw a synthetic blood smear: the data of the quickstart, of smoke runs and of tests."""
