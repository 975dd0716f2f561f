"""The one training loop, its tasks, checkpoints and worker groups."""
