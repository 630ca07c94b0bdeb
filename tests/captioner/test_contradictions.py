"""Captions against what was measured: what is the opposite of it, and what only sounds like it."""

from __future__ import annotations

import itertools

import pytest

from captioner.checks import ends_in_mid_sentence, is_repetitive
from captioner.claims import camera_claims, claims_of
from captioner.contradictions import contradictions_of
from captioner.facts import Facts
from captioner.facts_words import captions_from_facts
from captioner.openings import has_stock_opening
from captioner.wording import camera_clause

MOVES = (
    *("static", "pan left", "pan right", "tilt up", "tilt down", "zoom in", "zoom out"),
    *("roll clockwise", "roll counterclockwise", "shake"),
)
BRIGHT, GRAY, VIVID = (
    Facts(light="bright"),
    Facts(is_black_and_white=True),
    Facts(is_black_and_white=False, color_strength="vivid", colors=("red", "blue", "white")),
)
BLACK, DARK, MUTED = Facts(light="black"), Facts(light="dark"), Facts(is_black_and_white=False, color_strength="muted")
STATIC, LEFT, RIGHT, ZOOM_IN = (Facts(camera=camera) for camera in ("static", "pan left", "pan right", "zoom in"))
SHAKE, UP, CLOCKWISE = Facts(camera="shake"), Facts(camera="tilt up"), Facts(camera="roll clockwise")
BUSY = Facts(motion="much", camera="static", subject_motion="much")
SWEEPING = Facts(motion="much", camera="pan left")
STILL = Facts(stillness="still", camera="static")

LIGHT = [
    ("A street at night with cars passing.", BRIGHT),
    ("A man walks through a dark room.", BRIGHT),
    ("The scene is dimly lit and quiet.", BRIGHT),
    ("The room is very dark.", BRIGHT),
    ("A night sky over the hills.", BRIGHT),
    ("It is night-time and a dog barks.", BRIGHT),
    ("Two people stand in complete darkness.", BRIGHT),
    ("A dimly lit hallway leads to a door.", BRIGHT),
    ("A nocturnal landscape with trees.", BRIGHT),
    ("A car drives through the night on a wet road.", Facts(light="very bright")),
    ("Children play on a sunny day in the park.", DARK),
    ("The scene is bright and cheerful.", DARK),
    ("A brightly lit room with two chairs.", DARK),
    ("Cars pass in broad daylight.", BLACK),
    ("Bright sunlight falls on a field.", BLACK),
    ("A man reads in warm sunlight.", BLACK),
    ("A well-lit kitchen.", BLACK),
]
NOT_LIGHT = [
    ("A lamp stands on a nightstand.", BRIGHT),
    ("A man in a dark blue coat walks by.", BRIGHT),
    ("A woman with dark hair smiles.", BRIGHT),
    ("The scene is not dark.", BRIGHT),
    ("A knight rides a black horse.", BRIGHT),
    ("A poster shows a street at night.", BRIGHT),
    ("The picture fades from a dark room to a garden.", BRIGHT),
    ("A sign reads “open at night”.".replace("“open at night”", ""), BRIGHT),
    ("People leave a nightclub in the morning.", BRIGHT),
    ("There is no darkness anywhere in the sky.", BRIGHT),
    ("A street at night with cars passing.", Facts(light="dim")),
    ("A street at night with cars passing.", Facts()),
    ("A street at night with cars passing.", DARK),
    ("A bright yellow taxi waits.", DARK),
    ("A brightly lit shop window glows.", DARK),
    ("Bright sunlight falls through a small window.", DARK),
    ("A bright idea makes her smile.", BLACK),
    ("It is not a sunny day.", DARK),
    ("A painting of a sunny field hangs there.", BLACK),
]
CAMERA = [
    ("A static shot of a street.", LEFT),
    ("The camera remains still while people walk past.", RIGHT),
    ("The camera is fixed.", ZOOM_IN),
    ("There is no camera movement.", LEFT),
    ("The camera does not move.", SHAKE),
    ("A city street, with the camera staying stationary.", UP),
    ("The camera pans left across the room.", RIGHT),
    ("The camera slowly pans to the right, revealing a lake.", LEFT),
    ("A slow pan to the left over the hills.", RIGHT),
    ("Panning right over a table.", LEFT),
    ("The camera tilts down to his shoes.", UP),
    ("The camera zooms in on her face.", STATIC),
    ("A cat sleeps while the camera slowly pushes in.", STATIC),
    ("The camera zooms out.", ZOOM_IN),
    ("The camera pulls back to reveal a garden.", ZOOM_IN),
    ("The camera rolls counterclockwise.", CLOCKWISE),
    ("A handheld camera follows a child.", STATIC),
    ("A tracking shot of a runner.", STATIC),
    ("The camera follows the man along the street.", STATIC),
    ("A man cooks. The camera pans to the right.", STATIC),
    ("The view zooms in on the clock.", STATIC),
    ("The camera holds still as the pan left of the stove heats up.", RIGHT),
    ("The camera moves to the left.", RIGHT),
    # Fused captions state what was measured, and the model's mistake comes beside it.
    ("The camera pans to the left. A man waves as the camera pans to the right.", LEFT),
]
NOT_CAMERA = [
    ("A cook lifts a frying pan.", STATIC),
    ("A pan left on the stove smokes.", RIGHT),
    ("Pans left on the counter gleam.", RIGHT),
    ("A hot pan right next to the sink.", LEFT),
    ("The camera does not pan left.", RIGHT),
    ("The camera is not static.", LEFT),
    ("A man looks at the camera and moves closer.", STATIC),
    ("A photographer pans her camera to the left.", STATIC),
    ("A security camera moves on the wall.", STATIC),
    ("Static electricity lifts her hair.", LEFT),
    ("A man stands still at the corner.", LEFT),
    ("The dog remains motionless.", RIGHT),
    ("The camera remains fixed on the runner.", LEFT),
    ("The camera is still moving along the road.", LEFT),
    ("The camera holds still, then pans right.", RIGHT),
    ("The camera pans left.", LEFT),
    ("The camera pans left.", Facts()),
    ("The camera pans left.", UP),
    ("The camera stays still.", STATIC),
    ("The camera tilts up as the man turns right.", UP),
    ("She zooms in from the left on her bike.", STATIC),
    ("Cars zoom out of the tunnel.", STATIC),
    ("They talk in a Zoom meeting.", STATIC),
    ("There is no zooming in and no pan.", STATIC),
    ("A close-up, zoomed in, of an eye.", STATIC),
    ("A man tilts his head down.", UP),
    ("The camera shows a man who turns left.", RIGHT),
    ("The camera shakes.", SHAKE),
    ("A static noise comes from the radio.", SHAKE),
    ("The boat moves to the left.", STATIC),
    ("A person holds a camera and pans it to the right.", STATIC),
    ("A chef sets the pan left of the burner.", RIGHT),
    ("The view is steady and the focus stays on the bird.", LEFT),
    ("A stationary train waits as the doors open.", LEFT),
    ("A close-up of a cup. The camera is positioned at eye level.", LEFT),
]
COLOR = [
    ("A black-and-white film of a train.", VIVID),
    ("The footage is in black and white.", VIVID),
    ("A black and white photograph of a man.", VIVID),
    ("The scene is monochrome.", VIVID),
    ("The footage appears to be monochromatic, with deep shadows.", VIVID),
    ("The image is entirely in grayscale.", VIVID),
    ("The street is filmed in black and white.", Facts(is_black_and_white=False, colors=("green", "blue"))),
    ("Vibrant colors fill the market.", GRAY),
    ("A woman in a red dress dances.", GRAY),
    ("A colourful parrot sits on a branch.", GRAY),
    ("A brightly colored kite rises.", GRAY),
    ("The sea is blue.", GRAY),
    ("A scene in rich colors.", MUTED),
    ("The colors are vivid.", MUTED),
    ("A street in muted colors.", VIVID),
    ("The picture is desaturated.", VIVID),
]
NOT_COLOR = [
    ("A black and white cat sleeps.", VIVID),
    ("A man in a black and white shirt.", VIVID),
    ("A woman dressed in black and white.", VIVID),
    ("Black-and-white stripes on a zebra.", VIVID),
    ("A black-and-white photograph hangs on the wall.", VIVID),
    ("The film is not in black and white.", VIVID),
    ("The picture is in black and white.", Facts()),
    ("The picture is in black and white.", MUTED),
    ("The picture is in black and white.", GRAY),
    ("An actor walks on the red carpet.", GRAY),
    ("A blue whale dives.", GRAY),
    ("He is a colorful character.", GRAY),
    ("It has no vivid colors.", GRAY),
    ("She has a vivid imagination.", GRAY),
    ("A colorful parrot sits on a gray wall.", MUTED),
    ("Bored people in a greenhouse.", GRAY),
    ("The picture turns from vivid colors to gray.", GRAY),
    ("A faded sign over a bright shop.", VIVID),
]
MOTION = [
    ("Nothing moves.", BUSY),
    ("A street in which nothing changes.", BUSY),
    ("A still image of a street.", BUSY),
    ("There is no movement.", BUSY),
    ("The scene is completely still.", BUSY),
    ("Everything is frozen.", BUSY),
    ("The image remains static.", BUSY),
    ("Still photograph of a race.", BUSY),
    ("A static image of a forest.", SWEEPING),
    ("There is no visible motion.", Facts(motion="much")),
    ("A scene of rapid movement.", STILL),
]
NOT_MOTION = [
    ("The cat remains motionless while cars race past.", BUSY),
    ("A still life with apples, and a hand that takes one.", BUSY),
    ("The man is still running.", BUSY),
    ("There is no camera movement.", BUSY),
    ("Nothing in the room moves as the camera pans left.", SWEEPING),
    ("Nothing moves.", STILL),
    ("Nothing moves.", Facts()),
    ("Nothing moves.", Facts(motion="some")),
    ("A still image hangs on the wall behind the dancers.", BUSY),
    ("There is no lack of movement.", BUSY),
    ("A static shot of a busy street.", BUSY),
    ("She moves a still in the distillery.", BUSY),
    ("A man runs.", STILL),
    ("The shot is static, with no camera movement.", BUSY),
    ("The frame remains still as the cars speed past.", BUSY),
    ("Nothing in the room moves except the flickering fire.", BUSY),
]
TABLES = {
    "contradicts_light": (LIGHT, NOT_LIGHT),
    "contradicts_camera": (CAMERA, NOT_CAMERA),
    "contradicts_color": (COLOR, NOT_COLOR),
    "contradicts_motion": (MOTION, NOT_MOTION),
}


@pytest.mark.parametrize(
    ("flag", "text", "facts"), [(flag, *row) for flag, (rows, _) in TABLES.items() for row in rows]
)
def test_the_opposite_of_what_was_measured_is_seen(flag: str, text: str, facts: Facts) -> None:
    assert flag in contradictions_of(text, facts)


@pytest.mark.parametrize(
    ("flag", "text", "facts"), [(flag, *row) for flag, (_, rows) in TABLES.items() for row in rows]
)
def test_what_only_sounds_like_it_is_let_pass(flag: str, text: str, facts: Facts) -> None:
    assert flag not in contradictions_of(text, facts)


@pytest.mark.parametrize("text", [text for rows in TABLES.values() for table in rows for text, _ in table])
def test_without_facts_nothing_contradicts(text: str) -> None:
    assert not contradictions_of(text, Facts())


@pytest.mark.parametrize("measured", MOVES)
def test_what_the_camera_does_is_read_from_our_own_words(measured: str) -> None:
    """The clause that tells what was measured claims that and nothing else."""
    for speed in ("slow", "medium", "fast", None):
        clause = camera_clause(measured, speed)
        assert camera_claims(f"{clause.capitalize()}.") == {measured}
        assert not contradictions_of(f"A man waves and {clause}.", Facts(camera=measured))  # type: ignore[arg-type]


def test_captions_from_facts_are_never_flagged() -> None:
    lights, moves = ("black", "dark", "dim", "medium", "bright", "very bright", None), (*MOVES, None)
    colors = (
        (True, None, ("gray",)),
        (False, "vivid", ("red", "blue")),
        (False, "muted", ("brown",)),
        (None, None, ()),
    )
    stillness = (("still", "little"), ("moving", "much"), (None, "some"), (None, None))
    seen = 0
    for light, move, (gray, strength, names), (still, motion) in itertools.product(lights, moves, colors, stillness):
        if still == "still" and move not in ("static", None):
            continue
        facts = Facts(
            light=light,  # type: ignore[arg-type]
            camera=move,  # type: ignore[arg-type]
            camera_speed="slow" if move not in (None, "static") else None,
            is_black_and_white=gray,
            color_strength=strength,  # type: ignore[arg-type]
            colors=names,
            stillness=still,  # type: ignore[arg-type]
            motion=motion,  # type: ignore[arg-type]
            subject_motion=motion if move == "static" else None,  # type: ignore[arg-type]
        )
        for kind, text in captions_from_facts(facts).items():
            seen += 1
            assert not contradictions_of(text, facts), (text, facts)
            assert not has_stock_opening(text)
            assert not is_repetitive(text)
            assert not ends_in_mid_sentence(text, kind)
    assert seen > 1000


def test_reading_takes_time_that_grows_with_the_text_alone() -> None:
    for part in ("the camera ", "slowly ", "very ", "not ", "pan left ", "night, ", "dark dark ", "the scene is "):
        text = part * (20_000 // len(part))
        assert isinstance(claims_of(text) | camera_claims(text), frozenset)
