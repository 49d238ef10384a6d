"""Fast paths; each module names the plain path that it must equal."""
