"""The diffusion transformer: text encoder, positions, attention over packs. Imports torch, numpy, einops, safetensors
only."""
