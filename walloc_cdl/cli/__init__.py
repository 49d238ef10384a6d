"""The `cdl` command: parsing and wiring only. Everything that computes is imported inside the commands."""

from walloc_cdl.cli.app import main

__all__ = ["main"]
