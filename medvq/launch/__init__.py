"""From a study to its runs, and the runs on this machine."""
