"""The ledger: what became of every source sample."""
