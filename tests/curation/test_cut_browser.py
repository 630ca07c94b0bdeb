"""Clips in a real browser: it shows the span's frames, each at its time, and neither what is before nor behind."""

from __future__ import annotations

import base64
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver

from curation.encode import encode_clip
from curation.film import Encoding, encode_film
from curation.mux import ClipFile
from tests.cutting import LIMITS, cut, decoded
from tests.jobs import conftest

browser = conftest.browser

pytestmark = pytest.mark.browser

FRAMES, STEP = 40, 6
# The duration, the size, and how bright the picture is at each of some times.
LOOK = """
const [address, times, done] = arguments;
const video = document.createElement("video");
const happens = name => new Promise((resolve, reject) => {
    video.addEventListener(name, resolve, {once: true});
    video.addEventListener("error", () => reject(new Error(video.error.message)), {once: true});
});
const drawn = () => Promise.race([
    new Promise(resolve => video.requestVideoFrameCallback(resolve)),
    new Promise(resolve => setTimeout(resolve, 1000)),
]);
const brightness = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    return pixels.filter((_, i) => i % 4 < 3).reduce((sum, value) => sum + value, 0) / (pixels.length * 3 / 4);
};
(async () => {
    video.muted = true;
    video.preload = "auto";
    const begun = drawn();
    video.src = address;
    await happens("loadeddata");
    await begun;
    const seen = {duration: video.duration, size: [video.videoWidth, video.videoHeight], levels: [brightness()]};
    for (const time of times) {
        const found = drawn();
        video.currentTime = time;
        await happens("seeked");
        await found;
        seen.levels.push(brightness());
    }
    return seen;
})().then(done, error => done({error: String(error)}));
"""


def look(driver: webdriver.Chrome, clip: ClipFile, times_s: list[float]) -> dict[str, Any]:
    kind = "video/webm" if clip.container == "matroska" else "video/mp4"
    address = f"data:{kind};base64,{base64.b64encode(clip.data).decode()}"
    driver.get("about:blank")
    driver.set_script_timeout(30)
    seen = driver.execute_async_script(LOOK, address, times_s)
    assert "error" not in seen, seen
    return seen


CASES = {
    "h264.mp4": Encoding(gop_frames=12, b_frames=3, keyframes_at_cuts=False, audio_codec="aac"),
    "late.mov": Encoding(gop_frames=12, b_frames=2, keyframes_at_cuts=False, start_offset_s=Fraction(3)),
    "stream.ts": Encoding(gop_frames=12, b_frames=2, keyframes_at_cuts=False, audio_codec="aac"),
    "av1.webm": Encoding("libsvtav1", gop_frames=12, audio_codec="libopus"),
    "vp9.webm": Encoding("libvpx-vp9", gop_frames=12, audio_codec="libopus"),
    "turned.mp4": Encoding(gop_frames=12, b_frames=2, keyframes_at_cuts=False, rotation_deg=90),
}


@pytest.mark.parametrize("how", ["copied", "encoded"])
@pytest.mark.parametrize("name", CASES)
def test_a_browser_shows_exactly_the_span(name: str, how: str, browser: webdriver.Chrome, tmp_path: Path) -> None:
    flat = np.ones((64, 96, 3), np.uint8)
    path = tmp_path / name
    encode_film(path, (flat * (10 + STEP * number) for number in range(FRAMES)), CASES[name])
    source = decoded(path)
    first, end = 19, 27
    if how == "copied":
        clip = cut(source, first, end)
        assert clip.lead_in_frames > 0
    else:
        clip = encode_clip(path, source.span(first, end), source.entry_pts(first), end - first, LIMITS)
    span_s, frame_s = float(source.span(first, end).duration_s), float(source.span(first, first + 1).duration_s)
    seen = look(browser, clip, [float(frame.time_s) + frame_s / 2 for frame in source.shown(first, end)])
    assert seen["duration"] == pytest.approx(span_s, abs=0.05 if how == "encoded" else 0.002)
    assert seen["size"] == [96, 64]
    numbers = [round((level - 10) / STEP) for level in seen["levels"]]
    assert numbers == [first, *range(first, end)]
