"""The version of the package, in a module of its own so that the command line can import it from below."""

__version__ = "0.1.0"
