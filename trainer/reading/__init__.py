"""What training reads: plans, clips, latents and captions, from a store's tables to packs on the host."""
