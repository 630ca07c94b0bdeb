"""Curation: footage to scenes, scored clips and verdicts, and the store that keeps them. Owns the vocabulary."""
