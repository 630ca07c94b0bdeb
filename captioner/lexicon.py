"""Word lists of `wording`: small classes of English words whose grammar captions need."""

from __future__ import annotations

__all__ = [
    "AFTER_HEAD",
    "AUXILIARIES",
    "BARE_ADJECTIVES",
    "BASE_VERBS",
    "BRIGHT_WORDS",
    "DARK_WORDS",
    "DETERMINERS",
    "INSIDE",
    "IRREGULAR_PLURALS",
    "NOTHING",
    "ON_TOP",
    "ORDINARY",
    "PLURAL_DETERMINERS",
    "PREPOSITIONS",
    "PRONOUNS",
    "SINGULARS_IN_S",
    "SINGULAR_DETERMINERS",
    "UNCOUNTED",
]


def _each(words: str) -> frozenset[str]:
    return frozenset(words.split())


PLURAL_DETERMINERS = _each(
    """these those both several many few two three four five six seven eight nine ten eleven twelve dozens hundreds
    thousands numerous various multiple"""
)
SINGULAR_DETERMINERS = _each("a an one this that each every another")
DETERMINERS = (
    PLURAL_DETERMINERS
    | SINGULAR_DETERMINERS
    | _each("the his her its their our my your some any all most other no more")
)
PRONOUNS = _each("he she it they")
AUXILIARIES = _each("is are was were has have can")
IRREGULAR_PLURALS = _each("people men women children feet teeth geese mice cattle police clothes hands")
SINGULARS_IN_S = _each("bus gas lens canvas atlas chaos cosmos iris campus circus cactus octopus")
# Without an article where there is no more than one kind of it.
UNCOUNTED = _each(
    """water snow ice smoke fire fog mist haze rain sand grass text traffic food light sunlight daylight darkness
    furniture graffiti machinery equipment clothing foliage vegetation greenery wildlife steam dust debris lava mud
    hair fur jewelry footage scenery nothing nobody someone something everyone lightning"""
)
PREPOSITIONS = _each(
    """in on at with by near under over behind beside between among amid against from to into through across along
    around inside outside above below before during aboard atop underneath beneath within"""
)
# A noun phrase's head stands before the first of these.
AFTER_HEAD = PREPOSITIONS | _each(
    """for of wearing holding standing sitting walking riding carrying who that which whose where covered dressed
    surrounded filled made lying facing looking being while as"""
)
# What a scene is set on rather than in.
ON_TOP = _each(
    """beach street road highway stage rooftop roof court pitch hill hillside bridge boat ship deck balcony terrace
    sidewalk path trail track runway mountain mountainside mountaintop platform lawn island coast shore farm train bus
    slope cliff pier planet"""
)
INSIDE = _each(
    """kitchen room bedroom bathroom office studio forest park field meadow garden desert city town village house
    apartment living-room restaurant bar cafe store shop supermarket warehouse factory gym hall hallway corridor
    classroom library museum church stadium arena jungle valley cave car tunnel alley courtyard backyard yard market
    hospital laboratory lab workshop garage barn greenhouse theater temple castle canyon swamp ocean sea sky space
    landscape environment area interior cockpit cabin tent pool aquarium"""
)
# Words that begin a field with a capital only because it begins there. Names stay as they are.
ORDINARY = (
    DETERMINERS
    | PRONOUNS
    | AUXILIARIES
    | AFTER_HEAD
    | IRREGULAR_PLURALS
    | UNCOUNTED
    | ON_TOP
    | INSIDE
    | _each(
        """black white gray grey red orange yellow green cyan blue purple pink brown beige golden silver teal turquoise
        dark bright dim soft warm cool cold harsh natural artificial low high even evenly diffuse diffused ambient
        dramatic muted vivid pale deep backlit dimly brightly softly neon young old elderly small large big tall short
        long wide narrow tiny huge close distant blurred blurry wooden metal stone brick concrete glass plastic leather
        man woman boy girl child baby person group crowd couple pair dog cat bird horse cow sheep fish bee car truck
        bicycle bike tree trees flower flowers mountains hills building buildings houses urban rural suburban indoor
        indoors outdoor outdoors underwater river lake clouds cloudy clear sunny overcast rainy snowy foggy misty night
        day daytime nighttime sunset sunrise dusk dawn morning evening afternoon winter summer autumn spring modern
        ancient traditional cinematic documentary realistic photorealistic animated animation cartoon abstract vintage
        handheld slow fast slowly quickly walks runs stands sits talks speaks looks moves plays rides drives flies
        dances turns jumps swims holds plain simple busy empty crowded open not
        calm quiet rocky snow-covered sandy grassy lush green-lit single lone left right front rear top bottom upper
        lower heavy thick thin smooth rough shiny clean dirty wet dry bare rusty smiling mixed various-colored colorful
        bearded blond blonde brown-haired middle-aged male female human hand face close-ups foreground background
        close-up medium extreme aerial studio-lit warm-toned cool-toned fluorescent overhead side rim ring spotlight"""
    )
)
# Third persons that models give in the wrong number.
BASE_VERBS = _each(
    """walk run stand sit talk speak look move play ride drive fly dance turn jump swim hold watch wait eat drink sleep
    smile laugh sing wave point climb fall float hover rise drift roll spin rotate flow cross pass carry pull push throw
    catch kick reach work cook write read paint fight"""
)
# Without a noun, these are no phrase that takes an article.
BARE_ADJECTIVES = _each(
    """still motionless stationary static idle urban rural natural suburban domestic industrial indoor outdoor blurred
    blurry dark black white gray plain empty bright simple unclear neutral abstract visible asleep awake alone"""
)
# Of the brightness of the whole picture; what a lamp or the sun is like is not measured.
BRIGHT_WORDS = _each("bright brightly well-lit sunny sunlit high-key overexposed brilliant blinding")
DARK_WORDS = _each(
    "dark darkness dim dimly night nighttime night-time low-light low-key underexposed moonlight moonlit pitch-black"
)
# What models write for nothing to say.
NOTHING = frozenset(
    line.strip()
    for line in """unknown
    none
    n/a
    na
    null
    nil
    nothing
    not visible
    not applicable
    not available
    not clear
    not specified
    unspecified
    unclear
    undefined
    no action
    no text
    no visible text
    other
    -""".splitlines()
)
