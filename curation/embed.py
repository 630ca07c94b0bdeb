"""Pictures and texts as vectors in one space, by any image-text model of transformers: CLIP, SigLIP and their like.

Radford et al., "Learning transferable visual models from natural language supervision" (arXiv 2103.00020); Zhai et
al., "Sigmoid loss for language image pre-training" (arXiv 2303.15343). Pictures are prepared as the model's own
processor says; CLIP's crops the middle square of the active picture, SigLIP's squeezes all of it into a square.
torch and transformers are imported when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.clip_frames import RGB
from curation.embeddings import EmbeddedClip, EmbeddingModel
from curation.model_files import BadModel, content_id, model_directory

__all__ = ["Embedder", "embedded_clip", "embedder_id"]

VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")

Vectors = NDArray[np.float32]
"""Rows of length 1, shape (pictures or texts, dimension)."""


def embedder_id(directory: Path) -> str:
    """The id that the model in a directory will have, without loading it."""
    return content_id("embedding", directory)


class Embedder:
    """A loaded model; make one with `Embedder.load`. Not for several threads at once."""

    def __init__(self, name: str, directory: Path, model: Any, processor: Any, device: str):
        self._directory, self._model, self._processor, self._device = directory, model, processor, device
        self._tokenizer: Any = None
        config = model.config.vision_config
        self.side_px = int(getattr(config, "image_size", 224))
        """Side of the square that the model sees."""
        blank = np.zeros((self.side_px, self.side_px, 3), np.uint8)
        self.model = EmbeddingModel(embedder_id(directory), name, self.embed_images([blank]).shape[1])

    @classmethod
    def load(cls, id_or_dir: str, device: str = "cpu") -> Embedder:
        """From a directory or the hub; weights are safetensors and no code of the model's is run. Raises BadModel."""
        directory = model_directory(id_or_dir)
        try:
            from transformers import AutoImageProcessor, AutoModel
            from transformers.utils import logging
        except ImportError as error:
            raise BadModel(f"{id_or_dir}: {error}; install the extra `cpu` or `gpu`") from error
        if not (directory / "config.json").is_file():
            raise BadModel(f"{id_or_dir}: no config.json in {directory}; give the directory of an image-text model")
        logging.disable_progress_bar()
        try:
            model, report = AutoModel.from_pretrained(directory, use_safetensors=True, output_loading_info=True)
            if not all(hasattr(model, side) for side in ("get_image_features", "get_text_features")):
                kind = type(model).__name__
                raise BadModel(f"{id_or_dir}: a {kind} is not an image-text model; give a CLIP, a SigLIP or the like")
            if report["missing_keys"]:
                raise BadModel(f"{id_or_dir}: its weights lack {sorted(report['missing_keys'])[0]} and others")
            processor = AutoImageProcessor.from_pretrained(directory, backend="pil")
        except BadModel:
            raise
        except Exception as error:  # files that do not fit raise errors of many kinds, none of them a fault of ours
            raise BadModel(f"{id_or_dir}: cannot be loaded: {_first_line(error)}") from error
        return cls(id_or_dir, directory, model.to(device).eval(), processor, device)

    def embed_images(self, pictures: Sequence[RGB]) -> Vectors:
        """Unit vectors of pictures of any sizes, in one batch."""
        inputs = self._processor(images=list(pictures), return_tensors="pt", input_data_format="channels_last")
        return self._unit("get_image_features", inputs)

    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts, in one batch; words over the model's length (CLIP: 77 tokens) are cut off.

        Raises BadModel where the model came without a tokenizer.
        """
        length = self._model.config.text_config.max_position_embeddings
        inputs = self._tokens()(
            list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return self._unit("get_text_features", inputs)

    def _tokens(self) -> Any:
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            # Without a vocabulary transformers makes an empty one and goes on.
            if not any((self._directory / name).is_file() for name in VOCABULARIES):
                raise BadModel(f"{self.model.name}: has no tokenizer, so it takes no texts")
            try:
                self._tokenizer = AutoTokenizer.from_pretrained(self._directory)
            except Exception as error:  # as above
                raise BadModel(f"{self.model.name}: its tokenizer cannot be loaded: {_first_line(error)}") from error
        return self._tokenizer

    def _unit(self, side: str, inputs: Any) -> Vectors:
        import torch

        with torch.inference_mode():
            output = getattr(self._model, side)(**inputs.to(self._device))
            features = output if isinstance(output, torch.Tensor) else output.pooler_output
            vectors = features.float().cpu().numpy()
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def embedded_clip(clip_id: str, vectors: Vectors) -> EmbeddedClip:
    """A clip from the vectors of its frames, (frames, dimension): their mean, brought to length 1.

    Frames whose vectors are not finite fail the clip as `not_finite`, and those that cancel out as `no_direction`.
    """
    if not np.isfinite(vectors).all():
        return EmbeddedClip(clip_id, None, frames=len(vectors), failure="not_finite")
    mean = vectors.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    if length < 1e-6:
        return EmbeddedClip(clip_id, None, frames=len(vectors), failure="no_direction")
    return EmbeddedClip(clip_id, (mean / length).astype(np.float32), length, len(vectors))
