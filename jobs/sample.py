"""Videos and images from what was trained. Needs no cluster and no store."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from curation.model_files import BadModel
from jobs.cli import parse
from jobs.progress import Progress
from jobs.runs import say
from trainer.checkpoint import CONFIG, BadCheckpoint
from trainer.geometry import Asked
from trainer.latents import LatentSpace, space_of
from trainer.media_files import refuse_unless_writable
from trainer.model.trained import read_trained
from trainer.pretrained_text import PretrainedTextEncoder, pretrained_reader
from trainer.sampler import Sampler, byte_reader, first_frame
from trainer.sampling import SamplingConfig
from trainer.training.files import RunFiles

__all__ = ["SampleOptions", "main"]

EXIT_REFUSED, EXIT_FAILED = 2, 4


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """Make a video or an image of a prompt, at any size, length and rate, with what a run has trained.

    Attributes:
        run: Directory of the run.
        prompt: What is to be seen; several make a file each, whose names have a number.
        out: File to write: .mp4, .png (animated where there are several frames) or .gif. What made it is stored inside.
        width: In pixels; any size is made.
        height: In pixels.
        seconds: 0 for an image.
        fps: Frames per second, 24 or 30000/1001.
        negative: What is not to be seen.
        first_frame: A picture to begin with; it is resized to the asked size and comes back as the first frame, as the
            compression network shows it.
        text_encoder: Where the run was trained with a pretrained one: its directory or hub id, if that has moved.
        network: The same for a compression network that is not in the run's own directory.
        device: cpu or cuda; by default cuda where there is one.
        sampling: How it is made.
    """

    run: Path
    prompt: tuple[str, ...]
    out: Path
    width: int = 256
    height: int = 256
    seconds: float = 2.0
    fps: str = "24"
    negative: str = ""
    first_frame: Path | None = None
    text_encoder: str | None = None
    network: str | None = None
    device: str | None = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("prompt: give at least one; an empty one is --prompt ''")
        for path in self.files():
            refuse_unless_writable(path, self.width, self.height, self.asked.rate)

    @property
    def asked(self) -> Asked:
        try:
            rate = Fraction(self.fps)
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"fps={self.fps}: must be a number or a fraction, such as 24 or 30000/1001") from None
        return Asked(self.width, self.height, self.seconds, rate)

    def files(self) -> list[Path]:
        """One for each prompt."""
        if len(self.prompt) == 1:
            return [self.out]
        digits = len(str(len(self.prompt) - 1))
        return [self.out.with_stem(f"{self.out.stem}-{n:0{digits}}") for n in range(len(self.prompt))]


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(SampleOptions, prog="python -m jobs.sample", argv=argv)
    try:
        sample(options)
    except (BadCheckpoint, BadModel, ValueError) as error:
        print(f"sample: {error}", file=sys.stderr, flush=True)
        return EXIT_REFUSED
    except (OSError, torch.OutOfMemoryError) as error:
        print(f"sample: {error}", file=sys.stderr, flush=True)
        return EXIT_FAILED
    return 0


def sample(options: SampleOptions) -> None:
    """Make all files. Raises BadCheckpoint, BadModel, ValueError, OSError."""
    sampler = sampler_of(options)
    asked, config = options.asked, options.sampling
    known = None
    if options.first_frame is not None:
        known = first_frame(sampler.space, picture_of(options.first_frame, asked), asked, sampler.trained)
    geometry = asked.covered(sampler.trained.transformer.compression)
    say(f"{asked.width}x{asked.height}, {asked.frames} frames: {geometry.tokens} tokens, {config.steps} steps")
    progress = Progress("sample", len(options.prompt) * config.steps, 0, unit="steps")
    for number, (prompt, file) in enumerate(zip(options.prompt, options.files(), strict=True)):

        def seen(step: int, prompt: str = prompt) -> None:
            progress.done(0)
            progress.show(prompt[:60])

        own = SamplingConfig(config.steps, config.solver, config.guidance, config.seed + number)
        sampler.to_file(file, asked, prompt, own, negative=options.negative, known=known, seen=seen)
        say(f"{file}")
    progress.show(is_last=True)


def sampler_of(options: SampleOptions) -> Sampler:
    """The run's model with its network and its texts. Raises BadCheckpoint, BadModel, ValueError."""
    files = RunFiles(options.run)
    facts = files.facts()
    if facts is None or not (files.model / CONFIG).is_file():
        ran = "has not written its model yet; let jobs.train finish" if facts else "is no directory of jobs.train"
        raise BadCheckpoint(f"run={options.run}: {ran}")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    trained, model = read_trained(files.model)
    asked = facts["options"]
    own = str(files.network) if (files.network / CONFIG).is_file() else asked["network"]
    space: LatentSpace = space_of(options.network or own, device)
    texts = byte_reader(model)
    if trained.encoder_id:
        encoder = options.text_encoder or asked["text_encoder"]
        limit = int(trained.encoder_id.rpartition("-")[2])
        texts = pretrained_reader(PretrainedTextEncoder.load(encoder, max_tokens=limit, device=device))
    return Sampler(trained, model.to(device), space, texts)


def picture_of(path: Path, asked: Asked) -> Tensor:
    """float32[3, H, W] from -1 to 1, at the asked size: at its own aspect, as much of its middle as covers that."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"first_frame={path}: is no picture that can be read ({error})") from error
    scale = max(asked.width / picture.width, asked.height / picture.height)
    size = (math.ceil(picture.width * scale), math.ceil(picture.height * scale))
    resized = picture.resize(size, Image.Resampling.LANCZOS)
    left, top = (resized.width - asked.width) // 2, (resized.height - asked.height) // 2
    cut = np.asarray(resized.crop((left, top, left + asked.width, top + asked.height)), np.float32)
    return torch.from_numpy(cut / 127.5 - 1).permute(2, 0, 1).contiguous()


if __name__ == "__main__":
    sys.exit(main())
