"""Training runs: the step, the configuration, the run itself, and loading its classifier."""
