"""Runners of a plan's shards; whichever does a shard, the bytes are the same."""
