"""Trainer: compression network, packing, diffusion transformer, sampling; training is to come."""
