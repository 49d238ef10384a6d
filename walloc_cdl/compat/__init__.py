"""The names of the `walloc` package: `from walloc_cdl.compat import walloc` replaces `from walloc import walloc`."""
