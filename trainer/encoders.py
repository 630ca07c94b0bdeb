"""A worker's part in making latents: pixels or words in, rows of `latents` out, one after the other.

C channels, T frames, H rows, W columns; L tokens of a text, D width
"""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from curation.model_files import BadModel
from curation.reader import DamagedClip
from curation.store import Store
from trainer.encoding import AskedClips, AskedTexts, WantedClip, WantedLatent, WantedText
from trainer.latents import space_of
from trainer.pretrained_text import PretrainedTextEncoder
from trainer.reading.pixels import clip_pixels
from trainer.reading.samples import BUFFER_BYTES, CountedFile

__all__ = ["ClipEncoder", "Encoded", "EncodedBatch", "TextEncoder", "half_bytes"]

DTYPE = "float16"
DAMAGED, NOT_FINITE, OVERFLOW, TOO_LONG = "damaged_clip", "not_finite", "float16_overflow", "too_long"

Read = TypeVar("Read")
Found = Tensor | str | Exception
"""What there is of one; the reason why there is nothing, which its row says; or an error, for which it cannot help."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What became of one: a latent of so many bytes, a row with the reason why there is none (`failure`), or a `fault`
    that is not its own, and no row, so that another run tries it again."""

    latent_id: str
    stored_bytes: int = 0
    failure: str | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """What became of each, and the rows, as fragments that no version of `latents` refers to yet."""

    latents: tuple[Encoded, ...]
    fragments: tuple[str, ...] = ()


def half_bytes(z: Tensor) -> bytes | str:
    """Values as float16, little-endian, in C order; or why they cannot be: `not_finite`, `float16_overflow`."""
    half = z.to(torch.float16)
    if half.isfinite().all():
        return half.cpu().contiguous().numpy().astype("<f2", copy=False).tobytes()
    return OVERFLOW if z.isfinite().all() else NOT_FINITE


class ClipEncoder:
    """A loaded network that takes batches of clips from the store. `encode` may be called from two threads: while one
    clip is with the network, others are decoded, at most `threads` ahead for each caller."""

    def __init__(self, asked: AskedClips, device: str, threads: int):
        """Loads the network. Raises BadModel, also where this machine has another one than the driver by that name."""
        try:
            self._space = space_of(asked.network, device)
        except ValueError as error:
            raise BadModel(str(error)) from error
        _refuse_other(self._space.network_id, asked.network_id)
        self._asked, self._threads = asked, threads
        self._decoders, self._network = ThreadPoolExecutor(threads), threading.Lock()

    def encode(self, store: Store, version: int, run_id: str, wanted: Sequence[WantedClip]) -> EncodedBatch:
        """Write the latents of clips; what became of each. Raises StoreUnavailable."""
        try:
            blobs = store.open("clips", version).take_blobs("video", ids=[clip.row_id for clip in wanted])
        except (OSError, ValueError) as error:
            raise store.unavailable("read", error) from error
        pixels = _ahead(self._decoders, self._pixels, list(zip(wanted, blobs, strict=True)), self._threads)
        made = ((clip, self._row(clip, run_id), self._latent(read)) for clip, read in zip(wanted, pixels, strict=True))
        return _written(store, made)

    def _pixels(self, clip: WantedClip, blob: Any) -> Found:
        """uint8[3, T, H, W]. What the store could not give is no fault of the clip, whose row would last."""
        if clip.geometry is None:
            assert clip.unfit is not None
            return clip.unfit
        if blob is None:
            return DAMAGED
        video = CountedFile(blob)
        try:
            with video:
                return clip_pixels(clip.row, io.BufferedReader(video, BUFFER_BYTES), clip.geometry)
        except DamagedClip:
            return video.failure or DAMAGED
        except OSError as error:
            return error

    def _latent(self, pixels: Found) -> Found:
        if not isinstance(pixels, Tensor):
            return pixels
        try:
            with self._network:
                return self._space.encode(pixels[None].float().div_(127.5).sub_(1))[0].float()
        except BadModel:  # its shapes were tried when it was loaded: what is left is values that are not finite
            return NOT_FINITE
        except Exception as error:  # whatever a network raises, want of memory first of all
            return error

    def _row(self, clip: WantedClip, run_id: str) -> dict[str, Any]:
        geometry = clip.geometry
        size = {"frames": geometry.frames, "height": geometry.height, "width": geometry.width} if geometry else {}
        rate = {"rate_num": clip.rate.numerator, "rate_den": clip.rate.denominator}
        input_id, network_id = clip.row["clip_id"], self._asked.network_id
        return _row(clip.latent_id, input_id, "clip", network_id, run_id) | size | rate


class TextEncoder:
    """A loaded text encoder. One text at a time, so that each has the very numbers that it has alone."""

    def __init__(self, asked: AskedTexts, device: str):
        """Raises BadModel, as ClipEncoder does."""
        self._encoder = PretrainedTextEncoder.load(asked.encoder, max_tokens=asked.max_tokens, device=device)
        _refuse_other(self._encoder.encoder_id, asked.encoder_id)
        self._model = threading.Lock()

    def encode(self, store: Store, version: int, run_id: str, wanted: Sequence[WantedText]) -> EncodedBatch:
        """Write the embeddings of texts; what became of each. Raises StoreUnavailable."""
        encoder_id = self._encoder.encoder_id
        rows = (_row(one.latent_id, one.caption_id, "text", encoder_id, run_id) for one in wanted)
        return _written(store, ((one, row, self._latent(one.text)) for one, row in zip(wanted, rows, strict=True)))

    def _latent(self, text: str) -> Found:
        try:
            with self._model:
                (encoded,) = self._encoder.encode([text])
        except BadModel:  # as for clips
            return NOT_FINITE
        except Exception as error:
            return error
        return TOO_LONG if encoded.tokens_cut else encoded.z_LD


def _refuse_other(here: str, there: str) -> None:
    if here != there:
        raise BadModel(f"a worker found the model {here} where the driver found {there}; give all the same files")


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[..., Read], inputs: Sequence[tuple[Any, ...]], ahead: int
) -> Iterator[Read]:
    """What `work` makes of each, in order, while so many of the next are in the making."""
    making: deque[Future[Read]] = deque()
    for each in inputs:
        making.append(pool.submit(work, *each))
        if len(making) > ahead:
            yield making.popleft().result()
    while making:
        yield making.popleft().result()


def _row(latent_id: str, input_id: str, kind: str, network_id: str, run_id: str) -> dict[str, Any]:
    return {"latent_id": latent_id, "input_id": input_id, "kind": kind, "network_id": network_id, "run_id": run_id}


def _written(store: Store, made: Iterator[tuple[WantedLatent, dict[str, Any], Found]]) -> EncodedBatch:
    """Rows as fragments, one latent after the other; nothing of those that met a fault."""
    done: list[Encoded] = []

    def rows() -> Iterator[dict[str, Any]]:
        for wanted, row, z in made:
            if isinstance(z, Exception):
                text = (str(z).splitlines() or [""])[0]
                done.append(Encoded(wanted.latent_id, fault=f"{type(z).__name__}: {text[:200]}"))
                continue
            latent = half_bytes(z) if isinstance(z, Tensor) else z
            if isinstance(z, Tensor) and isinstance(latent, bytes):
                done.append(Encoded(wanted.latent_id, len(latent)))
                yield row | {"latent_shape": list(z.shape), "dtype": DTYPE, "latent": latent}
            else:
                assert isinstance(latent, str)
                done.append(Encoded(wanted.latent_id, failure=latent))
                yield row | {"failure": latent}

    fragments = store.write_latents(rows())
    return EncodedBatch(tuple(done), tuple(fragments))
