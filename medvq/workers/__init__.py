"""Start the processes that train: in this process, with Ray Train, or with torchrun."""
