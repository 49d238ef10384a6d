"""The version of the package, in a module of its own so that modules of the package can import it from below."""

__version__ = "0.1.0"
