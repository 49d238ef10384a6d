"""Augmentation of pixels on the device, each sample of a batch by its own random numbers.

A classifier with the synthesis stem sees pixels that the stem makes from stored latents, so what is usually done to
pixels before encoding can be done to them afterwards. Every random number follows from the sample's word of
`LatentLoader.with_words`, and so from (seed, epoch, position) alone: the same for any batch size and number of ranks,
and after resumption.

`config` has the settings and the usual presets, `pipeline` applies them; `draws` makes the random numbers; `geometry`,
`color` and `erasing` are the operations; `policies` chooses among them (RandAugment, TrivialAugment).
"""
