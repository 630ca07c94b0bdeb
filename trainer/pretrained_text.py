"""Pretrained text encoders of transformers: T5 and UMT5, as CogVideoX, LTX-Video and Wan use them.

Raffel et al., "Exploring the limits of transfer learning with a unified text-to-text transformer" (arXiv 1910.10683);
Chung et al., "UniMax" (arXiv 2304.09151) for UMT5. A text ends with the token that says so (eos); padding is masked and
cut off, so a text is the same alone and among others. transformers is imported when an encoder is loaded.

Letters of shapes: B texts, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curation.model_files import BadModel, content_id
from trainer.model.transformer import TextTokens
from trainer.pretrained_files import first_line, need_safetensors, part_directory, read_config
from trainer.sampler import TextReader

__all__ = ["EncodedText", "PretrainedTextEncoder", "pretrained_encoder_id", "pretrained_reader"]

PART, TOKENIZER_PART = "text_encoder", "tokenizer"  # where a pipeline of diffusers has them
KNOWN = ("t5", "umt5")
VOCABULARIES = ("tokenizer.json", "spiece.model", "tokenizer.model")
MAX_TOKENS = 512  # Wan's; CogVideoX takes 226, LTX-Video 128


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text as vectors z_LD, float32, and the tokens that it had over the encoder's `max_tokens`."""

    z_LD: Tensor
    tokens_cut: int


def pretrained_encoder_id(id_or_dir: str, max_tokens: int = MAX_TOKENS) -> str:
    """The `encoder_id` that an encoder will have, without loading it. Raises BadModel."""
    return _encoder_id(*_directories(id_or_dir), max_tokens)


def _directories(id_or_dir: str) -> tuple[Path, Path]:
    """The model's and the tokenizer's, which are one where no pipeline is given."""
    return part_directory(id_or_dir, PART), part_directory(id_or_dir, TOKENIZER_PART)


def _encoder_id(model: Path, tokenizer: Path, max_tokens: int) -> str:
    return f"{content_id('text', *dict.fromkeys((model, tokenizer)))}-{max_tokens}"


class PretrainedTextEncoder:
    """A loaded text encoder; make one with `PretrainedTextEncoder.load`. Frozen.

    Attributes:
        width: D of a text's vectors.
        max_tokens: The most tokens of a text, eos among them; the rest is cut and counted.
        encoder_id: Hash of config, weights and tokenizer, and `max_tokens`.
    """

    def __init__(self, name: str, encoder_id: str, model: Any, tokenizer: Any, max_tokens: int):
        self.encoder_id, self.max_tokens, self.width = encoder_id, max_tokens, int(model.config.d_model)
        self._name, self._model, self._tokenizer = name, model, tokenizer

    @classmethod
    def load(
        cls,
        id_or_dir: str,
        *,
        max_tokens: int = MAX_TOKENS,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> PretrainedTextEncoder:
        """From a directory with its tokenizer, a pipeline's directory or the hub.

        Raises ValueError, and BadModel for what is no T5 or UMT5 or lacks weights or tokenizer.
        """
        if max_tokens < 1:
            raise ValueError(f"max_tokens={max_tokens}: must be at least 1, which is eos")
        directory, tokens = _directories(id_or_dir)
        config = read_config(directory, "a T5 or UMT5 with its tokenizer, or that of a pipeline")
        if config.get("model_type") not in KNOWN:
            kind = str(config.get("model_type"))[:60]
            raise BadModel(f"{directory}: its model_type is {kind}, and one of {', '.join(KNOWN)} is needed")
        need_safetensors(directory)
        model = _load_model(id_or_dir, directory, config["model_type"], dtype)
        tokenizer = _load_tokenizer(id_or_dir, tokens, model.config.vocab_size)
        model = model.to(device).eval().requires_grad_(False)
        return cls(id_or_dir, _encoder_id(directory, tokens, max_tokens), model, tokenizer, max_tokens)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Texts in one batch, each with only its own tokens: an empty text has one, eos.

        Raises BadModel where the model gives no numbers.
        """
        if not texts:
            return []
        ids = self._tokenizer(list(texts), padding=False, truncation=False, verbose=False).input_ids
        eos = self._tokenizer.eos_token_id
        kept = [one if len(one) <= self.max_tokens else [*one[: self.max_tokens - 1], eos] for one in ids]
        longest = max(map(len, kept))
        device = self._model.device
        ids_BL = torch.zeros(len(kept), longest, dtype=torch.long, device=device)  # what stands in padding is masked
        mask_BL = torch.zeros_like(ids_BL)
        for row, one in enumerate(kept):
            ids_BL[row, : len(one)] = torch.tensor(one, device=device)
            mask_BL[row, : len(one)] = 1
        z_BLD = self._model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state.float()
        # A copy of each: a slice would hold the whole batch in memory, and write it where a slice is stored.
        encoded = [
            EncodedText(z_LD[: len(of_it)].clone(), len(one) - len(of_it))
            for z_LD, of_it, one in zip(z_BLD, kept, ids, strict=True)
        ]
        if not all(one.z_LD.isfinite().all() for one in encoded):
            raise BadModel(f"{self._name}: gave values that are not finite; load it with another dtype")
        return encoded


def pretrained_reader(encoder: PretrainedTextEncoder) -> TextReader:
    """For `Sampler`. What it reads raises ValueError for a text of too many tokens: none is cut silently."""

    def read(texts: Sequence[str]) -> TextTokens:
        found = encoder.encode(texts)
        if cut := sum(one.tokens_cut for one in found):
            raise ValueError(f"prompt: has {cut} tokens too many; the encoder reads {encoder.max_tokens}")
        return TextTokens.of([one.z_LD for one in found])

    return TextReader(read, encoder.encoder_id)


def _load_model(name: str, directory: Path, model_type: str, dtype: torch.dtype) -> Any:
    try:
        import transformers
        from transformers.utils import logging
    except ImportError as error:
        raise BadModel(f"{name}: {error}; install the extra `cpu` or `gpu`") from error
    logging.disable_progress_bar()
    family: Any = transformers.T5EncoderModel if model_type == "t5" else transformers.UMT5EncoderModel
    try:
        model, report = family.from_pretrained(
            directory, use_safetensors=True, local_files_only=True, output_loading_info=True, dtype=dtype
        )
    except Exception as error:  # files that do not fit raise errors of many kinds, none of them a fault of ours
        raise BadModel(f"{name}: cannot be loaded: {first_line(error)}") from error
    if report["missing_keys"]:
        raise BadModel(f"{name}: its weights lack {sorted(report['missing_keys'])[0]} and others")
    return model


def _load_tokenizer(name: str, directory: Path, vocabulary: int) -> Any:
    from transformers import AutoTokenizer

    # Without a vocabulary transformers makes an empty one and goes on.
    if not any((directory / file).is_file() for file in VOCABULARIES):
        raise BadModel(f"{name}: has no tokenizer in {directory}; one of {', '.join(VOCABULARIES)} is needed")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        ends = list(tokenizer("").input_ids)
    except Exception as error:  # as above
        raise BadModel(f"{name}: its tokenizer cannot be loaded: {first_line(error)}") from error
    if tokenizer.eos_token_id is None or ends != [tokenizer.eos_token_id]:
        raise BadModel(f"{name}: its tokenizer gives {ends} for an empty text, and a T5's gives one token, eos")
    if len(tokenizer) > vocabulary:
        raise BadModel(f"{name}: its tokenizer has {len(tokenizer)} tokens, and the model knows {vocabulary}")
    return tokenizer
