"""Models made on the spot, with random weights: image-text models of transformers, and plug-ins."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from curation.clip_frames import RGB

WORDS = {"[pad]": 0, "[unk]": 1, "[eos]": 2, "a": 3, "red": 4, "blue": 5, "car": 6}
SIDE = 32
IDS = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
WIDTHS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT, VISION = WIDTHS | IDS | {"max_position_embeddings": 8}, WIDTHS | {"image_size": SIDE, "patch_size": 16}
DIMENSIONS = {"clip": 16, "siglip": 32}


def make_embedding_model(folder: Path, kind: str, seed: int = 0) -> Path:
    """A `clip` or `siglip` with its processor and tokenizer, as `save_pretrained` leaves them."""
    import torch
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    torch.manual_seed(seed)
    square = {"height": SIDE, "width": SIDE}
    if kind == "clip":
        CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16)).save_pretrained(folder)
        CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=square).save_pretrained(folder)
    else:
        SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)).save_pretrained(folder)
        SiglipImageProcessorPil(size=square).save_pretrained(folder)
    make_tokenizer(folder)
    return folder


def make_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(WORDS, unk_token="[unk]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    words.post_processor = processors.TemplateProcessing(single="$A [eos]", special_tokens=[("[eos]", 2)])  # type: ignore[assignment]
    named = {"pad_token": "[pad]", "unk_token": "[unk]", "eos_token": "[eos]"}
    PreTrainedTokenizerFast(tokenizer_object=words, **named).save_pretrained(folder)


class Brightness:
    """A plug-in: mean brightness as a share, and a word."""

    name, model_id, columns, side_px = "brightness", "brightness-1", ("safety_unsafe_share", "word"), SIDE

    def load(self, device: str) -> None:
        assert device == "cpu"

    def score(self, clips: Sequence[Sequence[RGB]]) -> list[Mapping[str, float | str]]:
        shares = [float(np.mean([frame.mean() for frame in frames])) / 255 for frames in clips]
        return [{"safety_unsafe_share": share, "word": "light" if share > 0.5 else "dark"} for share in shares]


class Delicate(Brightness):
    """Raises over batches of more than one clip, and over clips of which it sees one frame."""

    model_id = "delicate-1"

    def score(self, clips: Sequence[Sequence[RGB]]) -> list[Mapping[str, float | str]]:
        if len(clips) > 1 or len(clips[0]) == 1:
            raise RuntimeError("out of memory")
        return super().score(clips)


class Deadly(Brightness):
    """Ends its process over the clip with the brightness that the environment names."""

    model_id = "deadly-1"

    def score(self, clips: Sequence[Sequence[RGB]]) -> list[Mapping[str, float | str]]:
        said = super().score(clips)
        if any(f"{said_of['safety_unsafe_share']:.6f}" == os.environ["DEADLY_SHARE"] for said_of in said):
            os._exit(1)
        return said
