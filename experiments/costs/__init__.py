"""What the conditions of a comparison cost, measured: rates, bytes, memory, operations, and when encoding pays."""
