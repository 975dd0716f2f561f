"""Tasks. A task defines the losses of a training step, the metrics of an evaluation, and the artifacts of a run."""
