"""What several tests share: sources, data sets, references, faults, and scripts that tests run."""
