"""Classes of files and of stored latents, by the classifier of a run."""
