"""From a caption and its clip to what a model of transformers takes: the question as the engine would see it, then the
caption as the answer.

Letters of shapes: B examples, L tokens of question and answer, A tokens of the longest answer.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from captioner.prompts import INSTRUCTIONS, messages_of
from captioner.tune_data import BadTuning, Example, TuneSource
from captioner.windows import WindowConfig, sample_times_s
from curation.clip_frames import RGB, frames_at
from curation.reader import DamagedClip

__all__ = ["Batch", "Encoded", "Encoder", "Loader", "batch_of", "prompts_of"]

NOT_LEARNT = -100  # a label that the loss passes over
# Where so many captions in a row are of damaged clips, it is not the clips.
MAX_DAMAGED = 100
AHEAD = 2  # steps whose frames are decoded ahead


@dataclass(frozen=True, slots=True)
class Encoded:
    """A question with its pictures as the processor gives it, a batch of 1, and the tokens of its answer (A)."""

    question: dict[str, Tensor]
    answer: Tensor

    @property
    def size_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.question.values())


@dataclass(frozen=True, slots=True)
class Batch:
    """Questions and answers side by side, filled up on the left, so that all answers end at the same place.

    `labels` has shape (B, A): the answers' tokens, filled up with `NOT_LEARNT`."""

    inputs: dict[str, Tensor]
    labels: Tensor

    @property
    def tokens(self) -> int:
        return int((self.labels != NOT_LEARNT).sum())

    def to(self, device: str) -> Batch:
        return Batch({name: tensor.to(device) for name, tensor in self.inputs.items()}, self.labels.to(device))


class Encoder:
    """A processor, and how clips are shown. Safe for several threads."""

    def __init__(self, processor: Any, windows: WindowConfig):
        self.processor, self._windows = processor, windows
        self._one_at_a_time = threading.Lock()  # tokenizers of transformers are not for several threads

    def encode(self, kind: str, text: str, frames: Sequence[tuple[float, RGB]]) -> Encoded:
        """The example of a caption and the frames of its window with their times."""
        messages, pictures = shown(messages_of(INSTRUCTIONS[kind], frames, self._windows))
        with self._one_at_a_time:
            question, answer = self._worded(messages, text)
            inputs = self.processor(text=[question], return_tensors="pt", **self._media(pictures))
            answer = self.processor.tokenizer(answer, add_special_tokens=False, return_tensors="pt").input_ids[0]
        return Encoded({name: value for name, value in inputs.items() if isinstance(value, Tensor)}, answer)

    def _worded(self, messages: list[dict[str, Any]], text: str) -> tuple[str, str]:
        """The question and the answer by the model's chat template; the answer ends as the model is to end it."""
        said = [*messages, {"role": "assistant", "content": [{"type": "text", "text": text}]}]
        question = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        both = self.processor.apply_chat_template(said, tokenize=False)
        if both.startswith(question):
            return question, both[len(question) :].rstrip()
        return question, text + self.processor.tokenizer.eos_token

    def _media(self, pictures: list[RGB]) -> dict[str, Any]:
        if self._windows.show_as == "images":
            return {"images": pictures}
        count = len(pictures)
        about = {"total_num_frames": count, "fps": self._windows.sample_fps, "frames_indices": list(range(count))}
        return {"videos": [np.stack(pictures)], "video_metadata": [about], "do_sample_frames": False}


def shown(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[RGB]]:
    """A chat in OpenAI's format as transformers wants it: places for the pictures, and the pictures, decoded as the
    engine decodes them."""
    pictures: list[RGB] = []
    turned = []
    for message in messages:
        parts = []
        for part in message["content"]:
            if part["type"] in ("image_url", "video_url"):
                jpegs = part[part["type"]]["url"].split(",")[1:]
                pictures += [_picture(jpeg) for jpeg in jpegs]
                parts.append({"type": part["type"].removesuffix("_url")})
            else:
                parts.append(part)
        turned.append({**message, "content": parts})
    return turned, pictures


def _picture(jpeg: str) -> RGB:
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(jpeg), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None, "OpenCV reads what it wrote"
    return decoded.astype(np.uint8, copy=False)


# -- batches


def batch_of(examples: Sequence[Encoded], pad_id: int) -> Batch:
    """What is learnt from at once: a question and its answer a row; only the answers have labels."""
    answers = [example.answer for example in examples]
    labels_BA = _filled_up([answer.unsqueeze(0) for answer in answers], NOT_LEARNT)
    return Batch(_side_by_side([_with_answer(example) for example in examples], pad_id), labels_BA)


def prompts_of(examples: Sequence[Encoded], pad_id: int) -> dict[str, Tensor]:
    """The questions alone, to be answered."""
    return _side_by_side([example.question for example in examples], pad_id)


def _with_answer(example: Encoded) -> dict[str, Tensor]:
    answer = example.answer.unsqueeze(0)
    of_answer = {"input_ids": answer, "attention_mask": torch.ones_like(answer)}
    return {
        name: torch.cat([value, of_answer.get(name, torch.zeros_like(answer)).to(value.dtype)], dim=1)
        if _is_per_token(example.question, name)
        else value
        for name, value in example.question.items()
    }


def _side_by_side(rows: Sequence[dict[str, Tensor]], pad_id: int) -> dict[str, Tensor]:
    """What has a value a token is filled up on the left; what pictures are made of follows one another."""
    return {
        name: _filled_up([row[name] for row in rows], pad_id if name == "input_ids" else 0)
        if _is_per_token(rows[0], name)
        else torch.cat([row[name] for row in rows])
        for name in rows[0]
    }


def _is_per_token(row: dict[str, Tensor], name: str) -> bool:
    """`attention_mask`, `mm_token_type_ids` and their like, whatever a model calls them."""
    return row[name].shape == row["input_ids"].shape and not row[name].is_floating_point()


def _filled_up(rows_1L: Sequence[Tensor], value: int) -> Tensor:
    longest = max(row.shape[1] for row in rows_1L)
    return torch.cat([torch.nn.functional.pad(row, (longest - row.shape[1], 0), value=value) for row in rows_1L])


# -- loading


class Loader:
    """Examples by their place in a list, decoded ahead by threads and kept while there is room."""

    def __init__(self, source: TuneSource, encoder: Encoder, windows: WindowConfig, *, threads: int, cache_bytes: int):
        self._source, self._encoder, self._windows = source, encoder, windows
        self._clips = source.store.open("clips", source.clips_version)
        self._threads = ThreadPoolExecutor(threads)
        self._kept: dict[str, Encoded | None] = {}
        self._free_bytes = cache_bytes
        self._lock = threading.Lock()
        self.damaged: set[str] = set()
        """Captions whose clips could not be decoded."""

    def readable(self, examples: Sequence[Example], steps: Iterator[Sequence[int]]) -> Iterator[list[Encoded]]:
        """For each step the examples at its positions. In place of one whose clip is damaged comes the next readable.

        Raises BadTuning where none is, StoreUnavailable.
        """
        waiting: list[tuple[Sequence[int], list[Future[Encoded | None]]]] = []
        for positions in steps:
            waiting.append((positions, [self._threads.submit(self._encoded, examples[at]) for at in positions]))
            if len(waiting) > AHEAD:
                yield self._finished(examples, *waiting.pop(0))
        for positions, futures in waiting:
            yield self._finished(examples, positions, futures)

    def all(self, examples: Sequence[Example], size: int) -> Iterator[list[tuple[Example, Encoded]]]:
        """Every readable example once, in groups."""
        for first in range(0, len(examples), size):
            group = examples[first : first + size]
            encoded = self._threads.map(self._encoded, group)
            yield [(example, one) for example, one in zip(group, encoded, strict=True) if one is not None]

    def _finished(
        self, examples: Sequence[Example], positions: Sequence[int], futures: Sequence[Future[Encoded | None]]
    ) -> list[Encoded]:
        found = (future.result() for future in futures)
        return [one or self._next(examples, at) for one, at in zip(found, positions, strict=True)]

    def _next(self, examples: Sequence[Example], at: int) -> Encoded:
        for further in range(1, min(len(examples), MAX_DAMAGED)):
            if (one := self._encoded(examples[(at + further) % len(examples)])) is not None:
                return one
        raise BadTuning(f"no clip of these captions can be decoded, such as {examples[at].row['clip_id']}")

    def _encoded(self, example: Example) -> Encoded | None:
        with self._lock:
            if example.caption_id in self._kept:
                return self._kept[example.caption_id]
        encoded = self._decoded(example)
        with self._lock:
            if encoded is None:
                self.damaged.add(example.caption_id)
            size_bytes = encoded.size_bytes if encoded else 0
            if size_bytes <= self._free_bytes and example.caption_id not in self._kept:
                self._free_bytes -= size_bytes
                self._kept[example.caption_id] = encoded
        return encoded

    def _decoded(self, example: Example) -> Encoded | None:
        try:
            (blob,) = self._clips.take_blobs("video", ids=[example.row_id])
            if blob is None:
                return None
            times_s = sample_times_s(example.window, self._windows.sample_fps)
            pixels = min(self._windows.frame_pixels, self._windows.window_pixels // len(times_s))
            with blob:
                frames = frames_at(example.row, blob, times_s, pixels)
        except (DamagedClip, MemoryError):
            return None
        except (OSError, ValueError) as error:
            raise self._source.store.unavailable("read", error) from error
        return self._encoder.encode(example.kind, example.text, frames)
