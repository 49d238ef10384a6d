"""Options whose value may be omitted, such as `--pretrained` and `--pretrained FILE`, which typer does not have.

Only a word that looks like a file is taken as the value, so that `--pretrained DIR` is still an option and an argument.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from typer.core import TyperCommand

OMITTED = ""
"""The value of an option that was given without one."""

FILE_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".npz", ".tar")
"""Suffixes of weights; those of other formats than safetensors are refused by whoever reads the file."""


def optional_value(name: str) -> str:
    """Returns the `metavar` that declares the value of an option, a file, as optional."""
    return f"[{name}]"


class OptionalValueCommand(TyperCommand):
    """A command that may have options with an optional value."""

    def parse_args(self, ctx, args):  # noqa: ANN001, ANN201
        """Parse the arguments, with `OMITTED` for each value that was omitted."""
        options = {
            name
            for parameter in self.params
            if str(getattr(parameter, "metavar", None) or "").startswith("[")
            for name in parameter.opts
            if name.startswith("--")
        }
        return super().parse_args(ctx, list(complete(args, options)))


def complete(arguments: Sequence[str], options: Collection[str]) -> Iterator[str]:
    """Yield the arguments, with `=` and `OMITTED` behind each of the options that no file follows."""
    for number, argument in enumerate(arguments):
        if argument == "--":
            yield from arguments[number:]
            return
        following = arguments[number + 1] if number + 1 < len(arguments) else ""
        is_file = Path(following).suffix.lower() in FILE_SUFFIXES or (following and Path(following).is_file())
        yield argument if argument not in options or is_file else f"{argument}={OMITTED}"
