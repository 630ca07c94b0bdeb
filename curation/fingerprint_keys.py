"""Keys of a fingerprint: small numbers of which copies share some and strangers hardly any, for an index to look up.

A key is the signs of 28 cosine terms of one region of one picture (locality-sensitive hashing by sign, Charikar 2002),
smoothed over half a second so that pictures sampled at other moments agree. Regions that leave out edges live
through logos and subtitles; two families are of what changes and not of what is seen, which any still overlay leaves
as it is.

Of the keys of every `WINDOW_STEPS` successive steps only the one with the least hash is kept (winnowing, Schleimer et
al. 2003): two clips that share a run of so many keys keep the same one of it, wherever each begins. Both sides are
treated alike, so that it does not matter which of two clips came first.

Plain pictures have common keys. So each key carries 32 check bits of the same picture, signs of further terms and which
of the key's terms are the stronger half: copies differ in few of them, strangers with the same key in about half.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curation.fingerprint import MIN_CONTRAST_LEVELS, SIDE_TERMS, TERMS, Fingerprint

__all__ = ["CHECK_BITS", "CONTENT_BAND", "FEW_KEYS", "KEY_BITS", "MAX_CHECK_BITS_APART", "keys_of"]

KEY_BITS = 28
STRENGTH_BITS, MORE_SIGNS = 25, 7
CHECK_BITS = STRENGTH_BITS + MORE_SIGNS
# Of 32 even chances at most so many fall on one side in 1 of 100 cases.
MAX_CHECK_BITS_APART = 9
# What two seconds have. Copies that have more share several, nearly always; strangers one now and then.
FEW_KEYS = 24
# Clips with fewer get coarse keys too.
COARSE_BELOW_KEYS = 40
WINDOW_STEPS = 5
SMOOTHING = np.array([1, 2, 3, 2, 1], np.float32) / 9
CHANGE_STEPS = 4
# Norm of the change over half a second, 8-bit levels, that is surely motion and no noise of an encoder.
MIN_CHANGE_LEVELS = 3.0
LOCAL_SIDE_TERMS = 6
# Left, top, right, bottom as shares of the picture. All but the first leave out the top and the bottom, where logos and
# subtitles stand, and between them either side.
LOOKS_REGIONS = (
    (0.0, 0.0, 1.0, 1.0),
    (0.2, 0.2, 0.8, 0.8),
    (0.0, 0.2, 0.65, 0.8),
    (0.35, 0.2, 1.0, 0.8),
    (0.0, 0.2, 1.0, 0.8),
)
CHANGE_REGIONS = ((0.0, 0.0, 1.0, 1.0), (0.2, 0.2, 0.8, 0.8))
CONTENT_BAND = len(LOOKS_REGIONS) + len(CHANGE_REGIONS)
# In a symmetric picture, as of a title, half of the terms are 0 but for noise: there a sign says nothing.
COARSE_REGIONS = (0, 1)
COARSE_BAND, COARSE_BITS, COARSE_NOISE_LEVELS = CONTENT_BAND + 1, 14, 0.7


def keys_of(fingerprint: Fingerprint) -> NDArray[np.uint64]:
    """The keys of all tracks and bands, and one of the exact content, in the upper half of each number, with their
    check bits in the lower. Each key once, rising; none where nothing is shown."""
    keys = [
        _winnowed(values) | np.uint64(band << KEY_BITS + CHECK_BITS)
        for track in range(len(fingerprint.tracks))
        for band, values in _by_band(fingerprint.levels(track))
    ]
    if fingerprint.content and any(len(k) for k in keys):
        content = fingerprint.content & (1 << KEY_BITS + CHECK_BITS) - 1
        keys.append(np.array([CONTENT_BAND << KEY_BITS + CHECK_BITS | content], np.uint64))
    found = _each_key_once(np.concatenate(keys))
    if len(found) < COARSE_BELOW_KEYS:
        coarse = [_coarse_keys(fingerprint.levels(track)) for track in range(len(fingerprint.tracks))]
        found = _each_key_once(np.concatenate([found, *coarse]))
    return found


def _each_key_once(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    numbers = np.sort(keys)
    return numbers[np.unique(numbers >> np.uint64(CHECK_BITS), return_index=True)[1]]


def _coarse_keys(levels: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Keys of fewer signs, of every step: for clips so short or faint that they have few others."""
    smooth = _smoothed(levels)
    shown = smooth[np.linalg.norm(smooth[:, 1:], axis=1) >= MIN_CONTRAST_LEVELS]
    signs = np.uint64((1 << COARSE_BITS + CHECK_BITS) - 1)
    keys = [
        _signs(shown, LOOKS_TERMS[region], surely_above=COARSE_NOISE_LEVELS) & signs
        | np.uint64(COARSE_BAND + region << KEY_BITS + CHECK_BITS)
        for region in COARSE_REGIONS
    ]
    return np.concatenate(keys)


def _by_band(levels: NDArray[np.float32]) -> list[tuple[int, NDArray[np.uint64]]]:
    smooth = _smoothed(levels)
    shown = smooth[np.linalg.norm(smooth[:, 1:], axis=1) >= MIN_CONTRAST_LEVELS]
    bands = [(band, _signs(shown, regional)) for band, regional in enumerate(LOOKS_TERMS)]
    if len(smooth) > CHANGE_STEPS:
        change = smooth[CHANGE_STEPS:] - smooth[:-CHANGE_STEPS]
        moving = change[np.linalg.norm(change, axis=1) >= MIN_CHANGE_LEVELS]
        bands += [(band, _signs(moving, regional)) for band, regional in enumerate(CHANGE_TERMS, len(LOOKS_TERMS))]
    return bands


def _smoothed(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    reach = len(SMOOTHING) // 2
    padded = np.pad(levels, ((reach, reach), (0, 0)), mode="edge")
    return sum(weight * padded[i : i + len(levels)] for i, weight in enumerate(SMOOTHING))  # type: ignore[return-value]


def _signs(terms: NDArray[np.float32], regional: NDArray[np.float32], surely_above: float = 0.0) -> NDArray[np.uint64]:
    """Keys and check bits of pictures (N, 64), seen through the weights of a region (35, 64)."""
    local = terms @ regional.T
    strength = np.abs(local[:, :STRENGTH_BITS])
    is_strong = strength > np.median(strength, axis=1, keepdims=True)
    bits = np.concatenate([is_strong, local[:, KEY_BITS:] > 0, local[:, :KEY_BITS] > surely_above], axis=1)
    return (bits.astype(np.uint64) << np.arange(bits.shape[1], dtype=np.uint64)).sum(axis=1, dtype=np.uint64)


def _winnowed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    if not len(keys):
        return keys
    # Fibonacci hashing, of the keys alone.
    hashes = (keys >> np.uint64(CHECK_BITS)) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)
    if len(keys) <= WINDOW_STEPS:
        return keys[[int(np.argmin(hashes))]]
    windows = np.lib.stride_tricks.sliding_window_view(hashes, WINDOW_STEPS)
    return keys[np.unique(np.argmin(windows, axis=1) + np.arange(len(windows)))]


def _regional_terms(box: tuple[float, float, float, float]) -> NDArray[np.float32]:
    """Weights (35, 64) that turn the terms of the whole picture into the lowest of a region, the mean left out."""
    left, top, right, bottom = box
    local = np.kron(_local(top, bottom), _local(left, right))
    rising = sorted(range(LOCAL_SIDE_TERMS**2), key=lambda i: (sum(divmod(i, LOCAL_SIDE_TERMS)), i))
    return local[rising[1 : KEY_BITS + MORE_SIGNS + 1]].astype(np.float32)


def _local(begin: float, end: float) -> NDArray[np.float64]:
    points = (np.arange(512) + 0.5) / 512
    return _cosines(LOCAL_SIDE_TERMS, points) @ _cosines(SIDE_TERMS, begin + (end - begin) * points).T / len(points)


def _cosines(terms: int, at: NDArray[np.float64]) -> NDArray[np.float64]:
    scale = np.where(np.arange(terms) == 0, 1, np.sqrt(2))[:, None]
    return scale * np.cos(np.pi * np.arange(terms)[:, None] * at)


LOOKS_TERMS = tuple(_regional_terms(region) for region in LOOKS_REGIONS)
CHANGE_TERMS = tuple(_regional_terms(region) for region in CHANGE_REGIONS)
assert all(terms.shape == (KEY_BITS + MORE_SIGNS, TERMS) for terms in (*LOOKS_TERMS, *CHANGE_TERMS))
