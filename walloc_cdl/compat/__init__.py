"""The `walloc` package's names: `from walloc_cdl.compat import walloc` in place of `from walloc import walloc`."""
