"""Who sees whom, against the rule said for two tokens."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainer.model.layouts import ATTENTIONS, Attention, Grid, Layout, Window, layouts_of, members_of

Place = tuple[int, int, int]


def seen(layout: Layout, tokens: int) -> NDArray[np.bool_]:
    """Which token sees which, by the order and the segments that attention is given."""
    order = np.arange(tokens) if layout.order is None else layout.order.numpy()
    segment = np.empty(tokens, np.int64)
    segment[order] = np.repeat(np.arange(len(layout.segments.lengths)), layout.segments.lengths)
    return segment[:, None] == segment[None, :]


def is_cut_between(first: int, other: int, length: int, side: int, is_moved: bool) -> bool:
    """Whether two places of an axis lie in two windows; 0 is a window over all of the axis."""
    if not side or side >= length:
        return False
    first_cut = side - side // 2 if is_moved else side
    return any(min(first, other) < cut <= max(first, other) for cut in range(first_cut, length, side))


def rule(attention: Attention, turn: int, window: Window, grid: Grid, a: Place, b: Place) -> bool:
    """Whether two tokens of a clip see each other."""
    match attention, turn:
        case "full", _:
            return True
        case "factorised", 0:
            return a[0] == b[0]
        case "factorised", _:
            return a[1:] == b[1:]
        case _:
            return not any(is_cut_between(*axis, turn == 1) for axis in zip(a, b, grid, window, strict=True))


def ruled(grids: list[Grid], padding: int, attention: Attention, turn: int, window: Window) -> NDArray[np.bool_]:
    tokens = [(n, (t, h, w)) for n, grid in enumerate(grids) for t, h, w in product(*map(range, grid))]
    tokens += [(len(grids), (0, 0, 0))] * padding
    sees = [
        [n == m and (n == len(grids) or rule(attention, turn, window, grids[n], a, b)) for m, b in tokens]
        for n, a in tokens
    ]
    return np.array(sees, bool).reshape(len(tokens), len(tokens))


AXES = [
    # length, side, not moved, moved by half
    (7, 4, [4, 3], [2, 4, 1]),
    (8, 4, [4, 4], [2, 4, 2]),
    (7, 3, [3, 3, 1], [2, 3, 2]),
    (5, 4, [4, 1], [2, 3]),
    (4, 4, [4], [4]),
    (3, 4, [3], [3]),
    (3, 0, [3], [3]),
    (3, 1, [1, 1, 1], [1, 1, 1]),
    (1, 2, [1], [1]),
]


@pytest.mark.parametrize(("length", "side", "still", "moved"), AXES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_windows_are_cut_at_the_rim(length: int, side: int, still: list[int], moved: list[int], axis: int) -> None:
    grid, window = [1, 1, 1], [1, 1, 1]
    grid[axis], window[axis] = length, side
    layouts = layouts_of([(grid[0], grid[1], grid[2])], "windowed", (window[0], window[1], window[2]))
    assert [list(layout.segments.lengths) for layout in layouts] == [still, moved]


GRIDS = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
WINDOWS = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))


@settings(max_examples=100)
@given(st.lists(GRIDS, min_size=1, max_size=3), st.sampled_from(ATTENTIONS), WINDOWS, st.integers(0, 4))
def test_tokens_see_those_that_the_rule_lets_them(
    grids: list[Grid], attention: Attention, window: Window, padding: int
) -> None:
    tokens = sum(t * h * w for t, h, w in grids) + padding
    layouts = layouts_of(grids, attention, window, padding=padding)
    assert len(layouts) == (1 if attention == "full" else 2)
    for turn, layout in enumerate(layouts):
        wanted = ruled(grids, padding, attention, turn, window)
        assert np.array_equal(seen(layout, tokens), wanted)
        event(f"{attention}, {'in order' if layout.order is None else 'put in order'}")


@settings(max_examples=100)
@given(st.lists(GRIDS, min_size=1, max_size=4), st.sampled_from(ATTENTIONS), WINDOWS, st.integers(0, 4))
def test_back_undoes_order_and_a_segments_tokens_stay_in_theirs(
    grids: list[Grid], attention: Attention, window: Window, padding: int
) -> None:
    tokens = sum(t * h * w for t, h, w in grids) + padding
    for layout in layouts_of(grids, attention, window, padding=padding):
        assert layout.segments.tokens == tokens
        assert 0 not in layout.segments.lengths
        if layout.order is None or layout.back is None:
            assert layout.order is None
            assert layout.back is None
            continue
        event("put in order")
        x = torch.arange(tokens)
        assert torch.equal(x[layout.order][layout.back], x)
        for begin, end in pairwise(layout.segments.cu.tolist()):
            assert bool((layout.order[begin:end].diff() > 0).all())


@settings(max_examples=60)
@given(GRIDS, st.tuples(st.integers(2, 4), st.integers(2, 4), st.integers(2, 4)))
def test_neighbours_see_each_other_in_one_of_two_blocks(grid: Grid, window: Window) -> None:
    tokens = grid[0] * grid[1] * grid[2]
    still, moved = (seen(layout, tokens) for layout in layouts_of([grid], "windowed", window))
    numbers = np.arange(tokens).reshape(grid)
    for axis in range(3):
        first, other = (np.delete(numbers, at, axis).ravel() for at in (-1, 0))
        assert (still | moved)[first, other].all()
    if not still.all():
        event("more than a window")


@settings(max_examples=60)
@given(GRIDS, GRIDS, st.sampled_from(ATTENTIONS), WINDOWS)
def test_clips_together_are_as_each_alone(first: Grid, other: Grid, attention: Attention, window: Window) -> None:
    together = layouts_of([first, other], attention, window)
    alone = [layouts_of([grid], attention, window) for grid in (first, other)]
    for turn, layout in enumerate(together):
        lengths = [n for layouts in alone for n in layouts[turn].segments.lengths]
        assert list(layout.segments.lengths) == lengths


def test_orders_that_are_written_down() -> None:
    full, space, time = *layouts_of([(2, 1, 2)], "full", (0, 0, 0)), *layouts_of([(2, 1, 2)], "factorised", (0, 0, 0))
    assert (full.order, full.segments.lengths) == (None, (4,))
    assert (space.order, space.segments.lengths) == (None, (2, 2))
    assert time.order is not None
    assert (time.order.tolist(), time.segments.lengths) == ([0, 2, 1, 3], (2, 2))
    order, lengths = members_of((1, 2, 4), (1, 2, 2), (0, 0, 1))
    assert (order.tolist(), lengths) == ([0, 4, 1, 2, 5, 6, 3, 7], [2, 4, 2])


def test_a_segments_bound_is_little_above_the_longest() -> None:
    for attention in ATTENTIONS:
        for layout in layouts_of([(2, 3, 4), (5, 1, 3)], attention, (1, 2, 2), padding=6):
            longest = max(layout.segments.lengths)
            assert longest <= layout.segments.longest < 2 * longest
            assert layout.segments.tokens == 24 + 15 + 6


def test_much_padding_is_cut_to_pieces() -> None:
    (layout,) = layouts_of([(1, 2, 2)], "full", (0, 0, 0), padding=150)
    assert layout.segments.lengths == (4, 64, 64, 22)
    assert layout.order is None


def test_a_layout_moves_to_a_device_with_all_it_has() -> None:
    (layout, _) = layouts_of([(2, 3, 4)], "windowed", (1, 2, 2))
    moved = layout.to("meta")
    assert moved.order is not None
    assert moved.back is not None
    assert {moved.order.device.type, moved.back.device.type, moved.segments.cu.device.type} == {"meta"}
    assert moved.segments.lengths == layout.segments.lengths
