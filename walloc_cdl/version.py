"""The version of the program, in a module of its own so that modules of the package may read it."""

__version__ = "0.1.0"
