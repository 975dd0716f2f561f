"""The tasks: what a step computes, what an evaluation measures, and what is left behind when a run is done."""
