"""The job that encodes a source: its configuration, its plan, its shards, the engines that make them, and its end."""
