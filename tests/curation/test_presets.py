"""Presets: every threshold is one of ours, has a source, and what cannot be applied is named; explicit options win."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.presets import PRESETS, Preset, described_presets, preset_arguments
from curation.verdicts import RULES, Thresholds, verdict
from jobs.cli import parse
from jobs.curate import CurateOptions
from jobs.verdict import VerdictOptions

THRESHOLDS = {rule.threshold for rule in RULES}


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_a_preset_is_possible_and_says_where_it_comes_from(preset: Preset) -> None:
    assert preset.values.keys() <= THRESHOLDS
    assert sum(len(asked.sets) for asked in preset.asked) == len(preset.values), "no threshold is set twice"
    assert preset.thresholds != Thresholds() or preset.values
    assert preset.source
    for asked in preset.asked:
        assert asked.says
        assert asked.sets or asked.note, f"{asked.says} is not applied and nobody says why"
    for name, value in preset.values.items():
        assert getattr(preset.thresholds, name) == value


@pytest.mark.parametrize(
    ("name", "clip", "reason"),
    [
        ("movie-gen", {"duration_s": 4.0, "short_side_px": 768, "aesthetic": 4.0}, None),
        ("movie-gen", {"duration_s": 3.9}, "too_short"),
        ("movie-gen", {"duration_s": 121.0}, "too_long"),
        ("movie-gen", {"short_side_px": 767}, "too_small"),
        ("movie-gen", {"aesthetic": 3.9}, "unaesthetic"),
        ("cosmos", {"duration_s": 1.9}, "too_short"),
        ("cosmos", {"motion_share_per_s": 0.03}, "too_little_motion"),
        ("hunyuan-video", {"border_share": 0.41}, "borders"),
        ("open-sora-2", {"bits_per_px": 0.019}, "low_bits"),
        ("open-sora-2", {"rate_fps": 15.0}, "low_rate"),
        ("open-sora-2", {"aspect": 3.1}, "too_wide"),
        ("open-sora-plan-1.3", {"caption_band_share": 0.21}, "caption_band"),
        ("easy-animate", {"text_share": 0.021}, "text"),
        ("easy-animate", {"duration_s": 10.1}, "too_long"),
        ("anyscale", {"luma_mean_levels": 29.0}, "too_dark"),
        ("anyscale", {"sharpness_levels2": 49.0}, "blurred"),
        ("panda-70m", {"duration_s": 1.4}, "too_short"),
    ],
)
def test_presets_judge_as_published(name: str, clip: dict[str, float], reason: str | None) -> None:
    assert verdict(clip, PRESETS[name].thresholds) == reason


def test_what_a_preset_does_not_speak_of_stays_at_the_default() -> None:
    for preset in PRESETS.values():
        for name in THRESHOLDS - preset.values.keys():
            assert getattr(preset.thresholds, name) == getattr(Thresholds(), name)


def test_a_preset_is_the_same_on_a_command_line() -> None:
    for name, preset in PRESETS.items():
        options = parse(VerdictOptions, prog="x", argv=["--store", "s", "--preset", name], has_presets=True)
        assert options.thresholds == preset.thresholds
        assert options.preset == name
    assert preset_arguments("open-sora-2")[:2] == ["--min-seconds", "2.0"]


@pytest.mark.parametrize(
    "in_file", ["", "preset: movie-gen\n", "min_seconds: 3\n", "preset: cosmos\nmin_side_px: 100\n"]
)
def test_explicit_options_win_wherever_the_preset_is_named(tmp_path: Path, in_file: str) -> None:
    config = tmp_path / "options.yaml"
    config.write_text(in_file or "dry_run: true\n")
    argv = ["--min-seconds", "1.5", "--store", "s", "--config", str(config)]
    if "preset: movie" not in in_file:
        argv += ["--preset", "movie-gen"]  # the command line has the last word
    options = parse(VerdictOptions, prog="x", argv=argv, has_presets=True)
    assert options.thresholds.min_seconds == 1.5
    assert options.thresholds.min_side_px == (100 if "min_side_px" in in_file else 768)
    assert options.thresholds.max_clip_seconds == 120.0


def test_curating_takes_a_preset_and_keeps_its_own_options() -> None:
    argv = ["--footage", "x", "--store", "s", "--preset", "easy-animate", "--max-seconds", "10", "--min-aspect", "0.5"]
    options = parse(CurateOptions, prog="x", argv=argv, has_presets=True)
    assert options.curate.takes.max_seconds == 10.0
    assert options.curate.thresholds.max_clip_seconds == 10.0
    assert options.curate.thresholds.min_side_px == 512
    assert options.curate.thresholds.min_aspect == 0.5


@pytest.mark.parametrize("argv", [["--preset", "none"], ["--compare", "movie-gen", "none"]])
def test_an_unknown_preset_is_refused_with_those_that_there_are(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(VerdictOptions, prog="x", argv=["--store", "s", *argv], has_presets=True)
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("│", "").split())
    assert "preset=none: must be one of movie-gen, cosmos" in said


def test_the_list_has_every_threshold_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(VerdictOptions, prog="x", argv=["--preset", "list"], has_presets=True)
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.strip() == described_presets()
    for preset in PRESETS.values():
        assert preset.source in said
        for asked in preset.asked:
            assert asked.says in said
            assert asked.note in said
