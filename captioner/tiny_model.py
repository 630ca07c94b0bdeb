"""A whole vision-language model made on the spot: a Qwen2-VL of a few hundred thousand random weights.

It has every part that a real one has (tokenizer, chat template, image and video processors) and goes wherever a real
one goes: transformers, vLLM, tuning. What it says means nothing until it has been tuned.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["TinyShape", "make_tiny_model", "save_processor"]

# Special tokens of Qwen2-VL, in its order.
END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
BOXES = ("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>")
SPECIAL = (END_OF_TEXT, START, END, *BOXES, VISION_START, VISION_END, "<|vision_pad|>", IMAGE, VIDEO)
VOCABULARY = 1024  # at most, without the special tokens; what the text below gives is less
MAX_TOKENS = 8192
PATCH_PX, MERGE, FRAMES_A_PATCH = 14, 2, 2  # Qwen2-VL's own
# Places are turns of an angle, and the slow turns tell rows and columns: with Qwen2-VL's 1e6 the few rows and columns
# of a small picture would be all but the same.
ROPE_THETA = 20.0
# The frames of small clips are shown as they are: a real one enlarges them to 128 patches.
LEAST_PX, MOST_PX = (2 * PATCH_PX * MERGE) ** 2, 448 * 448

# Messages in ChatML; a picture or a video is one pad token between its marks, which the processor repeats.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] in ('video', 'video_url') %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

COLORS = (
    "red",
    "green",
    "blue",
    "yellow",
    "orange",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
    "gray",
    "cyan",
    "teal",
)
SHAPES = ("circle", "square", "triangle", "rectangle", "star", "ring", "cross", "bar", "disc", "ball")
SIZES = ("small", "large", "big", "tiny")
WAYS = ("to the left", "to the right", "up", "down", "upwards", "downwards", "in place")
FIELDS = ("subjects", "action", "setting", "background", "style", "lighting", "colors", "shot_type", "camera", "text")


@dataclass(frozen=True, slots=True)
class TinyShape:
    """How large the parts are. Heads are 32 wide where a width is below 128, else 64: vLLM's CPU attention takes both.

    Attributes:
        hidden: Width of the language model, a multiple of 32.
        layers: Its layers.
        vision_hidden: Width of the vision model, a multiple of 32.
        vision_layers: Its layers.
    """

    hidden: int = 128
    layers: int = 2
    vision_hidden: int = 64
    vision_layers: int = 2

    def __post_init__(self) -> None:
        for name in ("hidden", "vision_hidden"):
            if getattr(self, name) < 32 or getattr(self, name) % head_width(getattr(self, name)):
                raise ValueError(f"TinyShape.{name}={getattr(self, name)}: must be 32, 64, 96, or a multiple of 64")
        for name in ("layers", "vision_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"TinyShape.{name}={getattr(self, name)}: must be at least 1")


def head_width(hidden: int) -> int:
    return 32 if hidden < 128 else 64


def make_tiny_model(
    directory: Path,
    *,
    seed: int = 0,
    hidden: int = 128,
    layers: int = 2,
    vision_hidden: int = 64,
    vision_layers: int = 2,
) -> Path:
    """Write a randomly initialised Qwen2-VL to a directory, which is made, and give the directory back.

    The same arguments give the same files. Raises ValueError for a shape that vLLM's CPU attention would refuse.
    """
    import torch
    from transformers import GenerationConfig, Qwen2VLConfig, Qwen2VLForConditionalGeneration

    shape = TinyShape(hidden, layers, vision_hidden, vision_layers)
    processor = tiny_processor()
    ids = {name: processor.tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    config = Qwen2VLConfig(
        text_config=text_config(shape, len(processor.tokenizer), ids),
        vision_config=vision_config(shape),
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2VLForConditionalGeneration(config)
    named = {"eos_token_id": [ids[END], ids[END_OF_TEXT]], "pad_token_id": ids[END_OF_TEXT]}
    model.generation_config = GenerationConfig(**named, do_sample=False)
    model.save_pretrained(directory)
    save_processor(processor, directory)
    return directory


def save_processor(processor: Any, directory: Path) -> None:
    """Write a processor of transformers so that vLLM finds all of it.

    vLLM 0.29 looks for the kind of video processor where transformers before 5 wrote it. Where it finds none it asks a
    list of transformers whose values are no longer names, and every request with a video fails ("unhashable").
    """
    processor.save_pretrained(directory)
    if (video_processor := getattr(processor, "video_processor", None)) is not None:
        video_processor.save_pretrained(directory)


# Weights of 0.02, as large models begin with, leave what a narrow layer adds so small that it learns slowly.


def text_config(shape: TinyShape, vocabulary: int, ids: dict[str, int]) -> dict[str, Any]:
    half = head_width(shape.hidden) // 2
    side = half * 3 // 8  # of the turning pairs, a quarter tells the time and the rest the place, as in Qwen2-VL
    return {
        "vocab_size": vocabulary,
        "initializer_range": shape.hidden**-0.5,
        "hidden_size": shape.hidden,
        "intermediate_size": 4 * shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.hidden // head_width(shape.hidden),
        "num_key_value_heads": shape.hidden // head_width(shape.hidden),
        "max_position_embeddings": MAX_TOKENS,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": ROPE_THETA,
            "mrope_section": [half - 2 * side, side, side],
        },
        "bos_token_id": None,
        "eos_token_id": ids[END],
        "pad_token_id": ids[END_OF_TEXT],
    }


def vision_config(shape: TinyShape) -> dict[str, Any]:
    return {
        "depth": shape.vision_layers,
        "initializer_range": shape.vision_hidden**-0.5,
        "embed_dim": shape.vision_hidden,
        "hidden_size": shape.hidden,
        "num_heads": shape.vision_hidden // head_width(shape.vision_hidden),
        "patch_size": PATCH_PX,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": FRAMES_A_PATCH,
    }


def tiny_processor() -> Any:
    from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

    pixels = {"shortest_edge": LEAST_PX, "longest_edge": MOST_PX}
    patches: dict[str, Any] = {"patch_size": PATCH_PX, "merge_size": MERGE, "temporal_patch_size": FRAMES_A_PATCH}
    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=dict(pixels), **patches),
        tokenizer=tiny_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(size=dict(pixels), **patches, cap_pixels_per_frame=False),
        chat_template=CHAT_TEMPLATE,
    )


def tiny_tokenizer() -> Any:
    """A byte-level BPE: it can spell everything, and has whole words of what captions are made of."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    bpe.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        vocabulary_text(),
        trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False, min_frequency=2),
    )
    bpe.add_special_tokens(list(SPECIAL))
    named = {"eos_token": END, "pad_token": END_OF_TEXT, "model_max_length": MAX_TOKENS}
    return PreTrainedTokenizerFast(tokenizer_object=bpe, **named, additional_special_tokens=list(SPECIAL[3:]))


def vocabulary_text() -> Iterator[str]:
    """Sentences with the words of captions, each often enough to become a token."""
    for color, shape in itertools.product(COLORS, SHAPES):
        yield f"A {color} {shape}."
        yield f"a {shape} moves over a dark {color} background, a bright {color} one"
    for size, way in itertools.product(SIZES, WAYS):
        yield f"A {size} shape moves {way} over a plain background."
        yield f"The camera stays still. The {size} subject stays {way}."
    prompts = (
        "Describe the main subject in one short sentence.",
        "Describe this clip in detail.",
        "system\nYou are a helpful assistant.",
        "user\nWhat is seen in these frames? Answer in JSON.",
        "assistant\nFrame at 0.0 s, 1.5 seconds.",
    )
    yield from repeated(prompts, 4)
    yield from repeated((f'{{"{field}":["","the"],"{field}":"unknown","static":"pan"}}' for field in FIELDS), 4)


def repeated(lines: Iterable[str], times: int) -> Iterator[str]:
    for line in lines:
        yield from itertools.repeat(line, times)
