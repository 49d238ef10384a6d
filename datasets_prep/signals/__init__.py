"""From a stored sample to the codec's input: one preparation for each kind of signal.

Workers import this package, so nothing in it needs more than numpy and what decodes the files.
"""
