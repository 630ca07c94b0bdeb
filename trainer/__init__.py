"""Trainer: compression network, packing, diffusion transformer, training and sampling. Not there yet."""
