"""Bit planes: latents of a few bits each, stored in the order of their importance.

A codec with bit planes quantizes each latent channel by its own table of 2^b sorted levels, b from 1 to 8. The code of
a latent is the number of its level, and its b bits are b bit planes. Since the levels are sorted, the upper p bits of a
code name a group of neighboring levels, whose mean is the value of that coarser code: the quantizer is embedded
(successive refinement, Equitz and Cover 1991). A codec has one order of all planes, by the squared error that the next
one removes, and a sample is stored as its planes in this order. So the first bytes of every stored row are the same
sample at a lower rate, and a prefix of every row is the same data set.

`rows` describes the stored row, `levels` the tables.
"""
