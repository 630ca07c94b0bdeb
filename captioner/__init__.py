"""Captioner: clips to facts and captions, tuning a captioner, rewriting a prompt. Not there yet."""
