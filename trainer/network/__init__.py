"""The compression network: video to latents and back."""
