"""Training: one loop for the diffusion transformer and the compression network, exactly resumable on any number of
processes. Knows torch, no Ray and no Lance."""
