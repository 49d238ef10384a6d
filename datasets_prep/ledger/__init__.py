"""The ledger: the outcome of every source sample."""
