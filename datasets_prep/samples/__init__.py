"""Stored samples: their forms, their locations, and the interface of the preparations that load them for a codec."""
