"""Transforms of latents themselves, each graded against encoding the transformed pixels.

After the inverse companding, a latent is an affine function of the pixels, so some of what is usually done to pixels
can be done to latents without a synthesis: for the `channels` stem, for models of one's own, and where a full synthesis
would be too much work. Where a classifier has the `synthesis` stem, `walloc_cdl.augment` does more.

`operations` are functions of batches, with the grade of each in its docstring: exact, or approximate with its error
(docs/transforms.md has the table); `pipeline` draws their amounts from each sample's word; `budgets` draws how much of
each row is read; `latent` is the tensor type that torchvision's transforms take, which refuses what is wrong.
"""
