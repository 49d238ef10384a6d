"""From a stored sample to the codec's input, and the worker processes that do it.

Workers import this package, so nothing in it needs more than numpy and what decodes the files.
"""
