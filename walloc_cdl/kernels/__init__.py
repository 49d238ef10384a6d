"""Fast paths; each module names its reference, the plain path that it must equal."""
