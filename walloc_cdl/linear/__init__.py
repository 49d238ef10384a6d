"""Linear maps of latents that a data set stores; a part of the base, beside `walloc_cdl.synthesis`."""
