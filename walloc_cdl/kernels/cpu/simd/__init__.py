"""Parts of kernels as vector instructions of the processor, which numba does not find by itself."""
