"""The processes that hold a loaded network or text encoder and write what they make of clips and captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curation.store import Store
from jobs.score_actors import Work
from trainer.encoders import ClipEncoder, Encoded, EncodedBatch, TextEncoder
from trainer.encoding import AskedClips, AskedTexts, WantedLatent

__all__ = ["EncodeActor", "encoding"]


class EncodeActor:
    """A process with a loaded model. Started again where it died, it loads it again."""

    def __init__(self, asked: AskedClips | AskedTexts, device: str, threads: int):
        self._making = asked, device, threads
        self._encoder: Any = None

    def ready(self) -> None:
        """Raises BadModel."""
        if self._encoder is None:
            asked, device, threads = self._making
            is_clips = isinstance(asked, AskedClips)
            self._encoder = ClipEncoder(asked, device, threads) if is_clips else TextEncoder(asked, device)

    def encode(self, store: Store, version: int, run_id: str, wanted: Sequence[WantedLatent]) -> EncodedBatch:
        self.ready()
        return self._encoder.encode(store, version, run_id, wanted)


def encoding(store: Store, version: int, run_id: str) -> Work[WantedLatent, EncodedBatch]:
    """What lacks a latent, of a version of the clips or captions, to EncodeActors."""

    def nothing(killers: Sequence[WantedLatent]) -> EncodedBatch:
        return EncodedBatch(tuple(Encoded(one.latent_id, fault="worker_died") for one in killers))

    return Work(
        lambda actor, batch: actor.encode.remote(store, version, run_id, batch),
        nothing,
        lambda made: made.latents[0].fault if all(one.fault for one in made.latents) else None,
    )
