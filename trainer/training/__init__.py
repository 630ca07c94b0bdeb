"""Training: one loop for the diffusion transformer and the compression network, exactly resumable on any number of
processes. The loop and its learners know torch alone; `work` gives them what the store's readers read. No Ray."""
