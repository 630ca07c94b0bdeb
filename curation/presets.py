"""Thresholds of published recipes, each with where it was published.

A recipe's numbers are about its own scores. Where this project measures the same thing, the preset sets the threshold;
where it measures nearly the same, it sets it and says how the two differ; where it does not measure it, the preset says
so, and says it again each time it is used. What a recipe does not speak of stays at this project's default.
"""

from __future__ import annotations

from dataclasses import dataclass

from curation.verdicts import Thresholds

__all__ = ["PRESETS", "Asked", "Preset", "described_presets", "preset_arguments", "preset_named"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing that a recipe asks for, and the thresholds that ask for it here: none where nothing here measures it.

    `note` says how the score here differs, or why the threshold is not applied and what comes nearest.
    """

    says: str
    sets: tuple[tuple[str, float], ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Preset:
    """A published recipe. `source` holds for everything that it asks for."""

    name: str
    title: str
    source: str
    asked: tuple[Asked, ...]

    @property
    def values(self) -> dict[str, float]:
        return {name: value for asked in self.asked for name, value in asked.sets}

    @property
    def thresholds(self) -> Thresholds:
        return Thresholds(**self.values)  # type: ignore[arg-type]

    @property
    def not_applied(self) -> tuple[Asked, ...]:
        return tuple(asked for asked in self.asked if not asked.sets)

    def asked_for(self, threshold: str) -> Asked | None:
        return next((asked for asked in self.asked if threshold in dict(asked.sets)), None)


# There the mean length of the codec's motion vectors of a frame over width + height, 0.00098; here longer sides a
# second, for a picture of 16:9 at 24 frames a second.
COSMOS_MOTION_SHARE_PER_S = round(0.00098 * (1 + 9 / 16) * 24, 3)

AESTHETIC_NOTE = "by the aesthetic head that gave the store its scores; the recipe's may be another"
OCR_NOTE = "the recipe's is an OCR's; text_share finds text without a model"
ONE_SHOT = "a clip is one shot here by the way it is cut"
DUPLICATES = "jobs.curate finds near-duplicates and rejects them, with no threshold here"

_MOVIE_GEN = Preset(
    "movie-gen",
    "Movie Gen",
    "Polyak et al. 2024, arXiv:2410.13720, pre-training data",
    (
        Asked("4 to 120 s long", (("min_seconds", 4.0), ("max_clip_seconds", 120.0))),
        Asked("both sides at least 768 px", (("min_side_px", 768),), "of the picture inside its borders"),
        Asked("aesthetic at least 4.0", (("min_aesthetic", 4.0),), AESTHETIC_NOTE),
        Asked("VMAF motion over 2", (), "not measured; min_motion_share_per_s comes nearest"),
        Asked("mean motion vector 0.5 to 7", (), "unit not published; min_ and max_motion_share_per_s come nearest"),
        Asked("little overlaid text", (), "no number published; max_text_share and max_overlay_share come nearest"),
        Asked("under 0.85 shots a second", (), ONE_SHOT),
        Asked("copy-detection cosine under 0.99", (), DUPLICATES),
        Asked("drawn by 1/sqrt of its cluster's size", (), "a way to draw, not to keep"),
    ),
)
_COSMOS = Preset(
    "cosmos",
    "cosmos-curate and NeMo Curator",
    "defaults of nvidia-cosmos/cosmos-curate and NVIDIA-NeMo/Curator, 2025",
    (
        Asked("2 to 60 s long", (("min_seconds", 2.0), ("max_clip_seconds", 60.0))),
        Asked("shorter side at least 256 px", (("min_side_px", 256),), "of the picture inside its borders"),
        Asked(
            "mean motion at least 0.00098",
            (("min_motion_share_per_s", COSMOS_MOTION_SHARE_PER_S),),
            "there by the codec's vectors over width + height a frame; converted for 16:9 at 24 frames a second",
        ),
        Asked("least motion of 256 px patches at least 1e-6", (), "not measured; still clips are dropped by default"),
        Asked("aesthetic at least 3.5", (("min_aesthetic", 3.5),), AESTHETIC_NOTE),
        Asked("overlays stable by 0.9 over 10 frames", (), "a model's; max_overlay_share comes nearest"),
        Asked("0.5 s cropped at both ends", (), "--trim-seconds 0.5 of jobs.curate does it"),
    ),
)
_HUNYUAN = Preset(
    "hunyuan-video",
    "HunyuanVideo",
    "Kong et al. 2024, arXiv:2412.03603, data",
    (
        Asked(
            "at least 60 % of the picture left after cropping",
            (("max_border_share", 0.4),),
            "what is cropped here are borders and caption bands, there text and logos as well",
        ),
        Asked("a sharp first frame, by the Laplacian", (), "no number published; min_sharpness_levels2 comes nearest"),
        Asked("no near-duplicates, by embeddings", (), DUPLICATES),
    ),
)
_OPEN_SORA_2 = Preset(
    "open-sora-2",
    "Open-Sora 2.0",
    "Open-Sora Team 2025, arXiv:2503.09642, data",
    (
        Asked("at least 2 s long", (("min_seconds", 2.0),)),
        Asked("at least 0.02 bits a pixel", (("min_bits_per_px", 0.02),)),
        Asked("at least 16 frames a second", (("min_rate_fps", 16.0),)),
        Asked("aspect within 1/3 and 3", (("min_aspect", 1 / 3), ("max_aspect", 3.0))),
        Asked("neither too little nor too much motion", (), "no numbers published; min_ and max_motion_share_per_s"),
        Asked("Laplacian blur by a majority of 5 frames", (), "no number published; min_sharpness_levels2 is a median"),
    ),
)
_OPEN_SORA_PLAN = Preset(
    "open-sora-plan-1.3",
    "Open-Sora-Plan 1.3",
    "Lin et al. 2024, arXiv:2412.00131, data",
    (
        Asked("aesthetic at least 4.75", (("min_aesthetic", 4.75),), AESTHETIC_NOTE),
        Asked(
            "at most 20 % cropped away with subtitles",
            (("max_caption_band_share", 0.2),),
            "what lies inside the active box is cropped when training",
        ),
        Asked("LPIPS motion 0.001 to 0.3", (), "not measured; min_ and max_motion_share_per_s come nearest"),
    ),
)
_EASY_ANIMATE = Preset(
    "easy-animate",
    "EasyAnimate",
    "aigc-apps/EasyAnimate, video_caption: its README and stage_2_video_filtering.sh",
    (
        Asked("3 to 10 s long", (("min_seconds", 3.0), ("max_clip_seconds", 10.0))),
        Asked("at least 512 by 512 px", (("min_side_px", 512),), "asked of the shorter side"),
        Asked(
            "text on at most 0.02 of the picture", (("max_text_share", 0.02), ("max_ocr_text_share", 0.02)), OCR_NOTE
        ),
        Asked("aesthetic (SigLIP) at least 4.0", (("min_aesthetic", 4.0),), AESTHETIC_NOTE),
        Asked(
            "motion 2 to 20", (), "px by Farneback's flow in half a second; min_ and max_motion_share_per_s are nearest"
        ),
        Asked("semantic consistency at least 0.8", (), ONE_SHOT),
    ),
)
_ANYSCALE = Preset(
    "anyscale",
    "Anyscale's video curation example",
    "Anyscale's public example of two-pass video curation, 2025",
    (
        Asked("at least 1 s long", (("min_seconds", 1.0),)),
        Asked("brightness 30 to 240", (("min_luma_mean_levels", 30.0), ("max_luma_mean_levels", 240.0))),
        Asked("contrast at least 20", (("min_luma_spread_levels", 20.0),), "standard deviation of brightness"),
        Asked("variance of the Laplacian at least 50", (("min_sharpness_levels2", 50.0),), "drops much good footage"),
    ),
)
_PANDA_70M = Preset(
    "panda-70m",
    "Panda-70M",
    "Chen et al. 2024, arXiv:2402.19479, splitting",
    (
        Asked("1.5 to 60 s long", (("min_seconds", 1.5), ("max_clip_seconds", 60.0))),
        Asked("10 % trimmed at both ends", (), "--trim-seconds of jobs.curate trims seconds, not shares"),
        Asked("neighbours stitched whose embeddings agree", (), "a way to cut, not to keep"),
    ),
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        *(_MOVIE_GEN, _COSMOS, _HUNYUAN, _OPEN_SORA_2),
        *(_OPEN_SORA_PLAN, _EASY_ANIMATE, _ANYSCALE, _PANDA_70M),
    )
}


def preset_named(name: str) -> Preset:
    """Raises ValueError naming those that there are."""
    if name not in PRESETS:
        raise ValueError(f"preset={name}: must be one of {', '.join(PRESETS)}")
    return PRESETS[name]


def preset_arguments(name: str) -> list[str]:
    """A preset as options of a command line, for other options to follow and to win. Raises ValueError."""
    arguments = []
    for threshold, value in preset_named(name).values.items():
        arguments += [f"--{threshold.replace('_', '-')}", str(value)]
    return arguments


def described_presets() -> str:
    """Every preset with every threshold and its source, for people."""
    lines = []
    for preset in PRESETS.values():
        lines.append(f"{preset.name}: {preset.title} ({preset.source})")
        for asked in preset.asked:
            sets = ", ".join(f"{name} = {value:g}" for name, value in asked.sets) or "not applied"
            lines.append(f"  {asked.says} → {sets}" + (f" ({asked.note})" if asked.note else ""))
    return "\n".join(lines)
