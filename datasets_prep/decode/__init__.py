"""Decodes stored samples to the codec's input, in worker processes.

Workers import this package, so its modules import no more than numpy and the packages that decode files.
"""
