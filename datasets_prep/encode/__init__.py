"""From signals to codes that depend on the signals alone: devices, precision, batches, the flip rate."""
