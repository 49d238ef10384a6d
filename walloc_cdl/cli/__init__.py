"""The `cdl` command: parsing and wiring only. Modules that compute are imported inside the commands."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `cdl` with `arguments` (those of the process by default) and exit; see `walloc_cdl.cli.app`."""
    # Imported here, since every process that a command starts imports the command's script again.
    from walloc_cdl.cli import app

    app.main(arguments)
