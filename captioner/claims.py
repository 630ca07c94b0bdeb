"""What a caption claims of light, colours, motion and the camera, read from its English words.

A claim is read only where its words can mean nothing else: of the whole picture, not of a thing in it ("a dark coat",
"a black-and-white cat"), not of a change ("fades to black"), not quoted, and not denied. What a pattern misses costs a
contradiction that goes unseen; what it reads wrongly would flag a good caption, so patterns are narrow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["CameraClaim", "camera_claims", "claims_of"]

CameraClaim = str
"""A label of the camera as in `Facts.camera`, or `moving` where the way is not said."""

_WHOLE = r"(?:video|footage|clip|film|image|picture|scene|shot|frame|setting|view|sequence|environment|surroundings)"
_PLACE = r"(?:room|interior|street|alley|forest|landscape|hall|hallway|corridor|space|bedroom|kitchen|city|sky|area)"
_IS = r"(?:is|are|was|remains?|stays?|appears?(?: to be)?|looks?|seems?(?: to be)?|becomes)"
_QUITE = (
    r"(?:(?:very|quite|rather|extremely|mostly|almost|nearly|completely|entirely|fully|relatively|predominantly)\s+)?"
)

_DARK = (
    r"\b(?:at|during the|in the|through the|late at|by) night\b(?! ?(?:stand|club|shift|gown))",
    r"\bnight[- ]?time\b",
    r"\bnight (?:scene|sky|shot|view|street|cityscape|landscape|setting)\b",
    r"\b(?:dark|starry|moonlit|moonless|clear|stormy) night\b",
    r"\bnocturnal (?:scene|setting|shot|view|landscape|city)",
    r"\b(?:in|into|through|near|total|complete|surrounding) (?:the )?(?:near |total |complete |"
    r"surrounding )?darkness\b",
    r"\bpitch[- ](?:black|dark)\b",
    rf"\b(?:the|this) (?:{_WHOLE}|{_PLACE}|lighting|light) {_IS} {_QUITE}(?:dark|dim|unlit|(?:dimly|poorly|"
    rf"barely) lit)\b",
    rf"\b(?:dark|darkened|unlit|(?:dimly|poorly|barely)[- ]lit) (?:{_WHOLE}|{_PLACE})\b",
    r"\blow[- ]light (?:conditions|scene|setting|environment|shot|footage)\b",
    r"\bdark (?:lighting|environment|exposure)\b|\bunderexposed\b",
)
_BRIGHT = (
    r"\bbroad daylight\b|\bsun[- ]drenched\b|\bhigh[- ]key lighting\b|\boverexposed\b",
    r"\bon a (?:bright(?:,| and)? )?(?:sunny|bright|clear|cloudless) (?:summer |spring |winter |autumn )?(?:day|"
    r"afternoon|morning)\b",
    rf"\b(?:the|this) (?:{_WHOLE}|{_PLACE}|lighting|light) {_IS} {_QUITE}(?:bright|sunny|sunlit|(?:brightly|"
    rf"well)[- ]lit)\b",
    rf"\b(?:bright|sunny|sunlit|(?:brightly|well)[- ]lit) (?:{_WHOLE}|room|interior|kitchen|bedroom|hall|studio|"
    rf"landscape)\b",
    r"\bbright (?:lighting|environment|daylight)\b|\bin (?:bright|full) (?:sunshine|sunlight|sun|daylight)\b",
)
# In a dark picture a beam of it may fall through a window; in one that is nearly black none does.
_SOME_BRIGHT = (
    r"\b(?:bright|strong|harsh|warm|golden|natural|brilliant|full|soft) (?:sun(?:light|shine)?|daylight)\b",
    r"\bsun(?:light|shine|lit)\b|\bsunny\b|\b(?:brightly|well)[- ](?:lit|illuminated)\b|\bdaylight\b|\bfloodlit\b",
)
_GRAY = (
    r"\bblack[- ]and[- ]white (?:film|footage|video|clip|shot|scene|movie|sequence|cinematography|style|palette|"
    r"tones?)\b"
    r"(?! (?:hangs|on the (?:wall|screen)|(?:is |are )?playing on))",
    r"^(?:an?|the|this)? ?(?:\w+ )?black[- ]and[- ]white (?:image|picture|photograph|photo|still)\b"
    r"(?! (?:hangs|hanging|on|pinned|lies|sits|stands|is (?:displayed|hung|pinned)))",
    rf"\b(?:filmed|shot|rendered|presented|recorded|captured|drawn|animated|entirely|all|{_WHOLE}|{_WHOLE} {_IS}|"
    rf"everything is) {_QUITE}in black[- ]and[- ]white\b(?! \w*(?:striped?|stripes|checker|uniform|suit|cloth|dress|"
    rf"shirt))",
    rf"\b(?:the|this) {_WHOLE} {_IS} {_QUITE}(?:black[- ]and[- ]white|monochrom(?:e|atic)|colou?rless)\b",
    rf"\bmonochrom(?:e|atic) (?:{_WHOLE}|palette|tones?|look|style|colou?r (?:scheme|palette))\b",
    rf"\b(?:in|entirely|all|{_WHOLE} {_IS}) gr[ae]yscale\b|\bgr[ae]yscale (?:{_WHOLE}|palette|tones?)\b",
)
_VIVID = (
    r"\b(?:vivid|vibrant|saturated|rich|bold|brilliant|bright) (?:[a-z]+ )?(?:colou?rs|hues|palette|colou?r palette)\b",
    rf"\b(?:the|this) (?:{_WHOLE}|colou?rs?|palette) {_IS} {_QUITE}(?:vivid|vibrant|colou?rful|saturated)\b",
    rf"\b(?:vivid|vibrant|colou?rful|vividly colou?red|brightly colou?red) (?:{_WHOLE}|colou?rs)\b",
)
# Of things as well: in a picture without colours nothing has one.
_SOME_COLOR = (
    r"\bcolou?rful\b(?! (?:character|language|personality|past|career|history|life))",
    r"\b(?:brightly|vividly|vibrantly)[- ]colou?red\b|\bmulti-?colou?red\b",
    r"\b(?:red|blue|green|yellow|purple|pink)\b(?![- ](?:carpet|wine|square|cross|whale|tea|fox|panda|beans?|house|"
    r"card|planet|army|screen|deer|squirrel|jay|heron))",
)
_MUTED = (
    r"\b(?:muted|desaturated|subdued|washed[- ]out|faded|drab|dull) (?:[a-z]+ )?(?:colou?rs|hues|palette|"
    r"colou?r palette)\b",
    rf"\b(?:the|this) (?:{_WHOLE}|colou?rs?|palette) {_IS} {_QUITE}(?:muted|desaturated|washed[- ]out|faded)\b",
)
_STILL_PICTURE = (
    r"\b(?:a|the|this|single) (?:still|static|frozen|motionless) (?:image|picture|photograph|photo|frame)\b"
    r"(?! (?:on|hang|in the (?:background|corner)|is (?:shown|displayed) on))",
    r"^(?:still|static) (?:image|picture|photograph|photo|frame)\b(?! (?:on|hang))",
    # Of a shot or a frame that is static, it is the camera that does not move.
    rf"\b(?:the|this|entire|whole) (?:image|picture|scene) {_IS} {_QUITE}(?:still|static|motionless|frozen|"
    rf"unchanged|unmoving)\b"
    r"(?! (?:as|while|\w+ing)\b)",
    r"\bfreeze[- ]frame\b",
)
_NOTHING_MOVES = (
    r"\bnothing (?:else )?(?:in the (?:scene|picture|frame|image|shot|video|clip|room) )?(?:moves|is moving|changes|"
    r"stirs)\b(?! (?:but|except|apart|other))",
    r"\beverything (?:\w+ ){0,2}(?:still|static|motionless|frozen)\b",
    r"\b(?:there is )?(?:no|without any|without) (?:visible |apparent |discernible |noticeable |perceptible )?"
    r"(?:motion|movement)\b(?! of the camera)",
)
_MUCH_MOVES = (
    r"\b(?:fast|rapid|frantic|vigorous|constant|lots of|a lot of) (?:motion|movement|action)\b",
    r"\bfast-paced (?:action|scene|sequence)\b",
)
_PATTERNS: dict[str, re.Pattern[str]] = {
    name: re.compile("|".join(patterns), re.IGNORECASE)
    for name, patterns in {
        "dark": _DARK,
        "bright": _BRIGHT,
        "some bright": _SOME_BRIGHT,
        "gray": _GRAY,
        "vivid": _VIVID,
        "some color": _SOME_COLOR,
        "muted": _MUTED,
        "still picture": _STILL_PICTURE,
        "nothing moves": _NOTHING_MOVES,
        "much moves": _MUCH_MOVES,
    }.items()
}
_OF_MOTION = frozenset({"nothing moves", "much moves"})
# A sentence with one of these tells of a change, of a likeness, or of a picture inside the picture.
_OF_A_CHANGE = re.compile(
    r"\b(?:fad(?:es?|ing)|turn(?:s|ing)?|becom(?:es?|ing)|grow(?:s|ing)?|transition\w*|chang(?:es?|ing)|shift(?:s|"
    r"ing)?|"
    r"darken\w*|brighten\w*|from (?:a |the )?(?:dark|bright|light|black|day|night|colou?r|vivid|muted)\w*|until|then|"
    r"initially|at first|eventually|cuts? to|switch\w*|flash\w*|flicker\w*)\b",
    re.IGNORECASE,
)
# A camera that holds still before it pans was not claimed to be static, nor a scene that bursts into motion still.
_AND_THEN = re.compile(
    r"\b(?:then|before|until|at first|initially|begins?|starts?|eventually|finally|after)\b", re.IGNORECASE
)
_OF_A_PICTURE = re.compile(
    r"\b(?:paintings?|posters?|drawings?|photographs?|photos?|screens?|monitors?|television|TV|murals?|"
    r"as if|as though|reminiscent|like (?:a|an|the)|titled|named|called|resembl\w+)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?;…])\s+|\n+")
_NEGATION = re.compile(
    r"\b(?:no|not|never|without|neither|nor|hardly|barely|lacks?|lacking|isn't|aren't|doesn't|don't|won't|rather than|"
    r"instead of|far from|unlike|nothing|cannot|can't|wasn't)\b",
    re.IGNORECASE,
)
NEGATED_WITHIN_WORDS = 4


def claims_of(text: str) -> frozenset[str]:
    """The names of what is claimed: keys of the patterns above, without those that are denied."""
    return frozenset(name for sentence in _sentences(text) for name in _claims_in(sentence))


def _sentences(text: str) -> Iterator[str]:
    return (s.strip() for s in _SENTENCE.split(text.replace("\u2019", "'")) if s.strip())


def _claims_in(sentence: str) -> Iterator[str]:
    # A photograph that a text begins with is the clip itself.
    if (of_a_picture := _OF_A_PICTURE.search(sentence)) and not re.match(
        r"(?:an?|the|this)? ?(?:\S+ ){0,4}?(?:photo|photograph)\b", sentence, re.IGNORECASE
    ):
        sentence = sentence[: of_a_picture.start()]
    is_changing, is_in_parts = bool(_OF_A_CHANGE.search(sentence)), bool(_AND_THEN.search(sentence))
    for name, pattern in _PATTERNS.items():
        if is_in_parts if name in _OF_MOTION else is_changing:
            continue
        if any(not _is_denied(sentence, found.start()) for found in pattern.finditer(sentence)):
            yield name


def _is_denied(sentence: str, start: int) -> bool:
    """Whether one of the few words before, in the same clause, denies what starts there."""
    clause = re.split(r"[,;:()\u2013—]|\bbut\b", sentence[:start])[-1]
    return bool(_NEGATION.search(" ".join(clause.split()[-NEGATED_WITHIN_WORDS:])))


# The camera's own doing: the noun at the start of a clause, so that "looks at the camera and moves closer" is none.
_CAMERA = re.compile(
    r"(?:^|[,;:(\u2013—]\s*|\b(?:and|while|as|when|then|where|which|because|that|but|with|whereas)\s+)"
    r"(?:the|static|handheld|hand-held|steady|moving)?\s*camera(?:'s (?:view|perspective|"
    r"frame))?\s+(?P<does>[^.;:!?]+)",
    re.IGNORECASE,
)
_SHOT = re.compile(
    r"(?:^|[,;:]\s*|\b(?:and|while|as|then)\s+)(?:the|this)\s+(?:shot|view|frame|perspective|lens|point of view)\s+"
    r"(?P<does>(?:\w+ly )?(?:pans|tilts|zooms|pulls|pushes|rotates|rolls|shakes|remains|stays|is)\b[^.;:!?]*)",
    re.IGNORECASE,
)
# Where another subject takes over.
_NEXT_SUBJECT = re.compile(
    r"\b(?:as|while|when|where|which|who|whose|because|so that|to (?:show|reveal|follow|capture|keep|bring)|"
    r"follow(?:s|ing)|"
    r"reveal(?:s|ing)|show(?:s|ing)|captur(?:es?|ing)|focus(?:es|ing)|with)\b|,(?!\s*(?:and\s+)?(?:then|slowly|"
    r"gradually|"
    r"smoothly|steadily|quickly|gently|pan|tilt|zoom|mov|push|pull|roll|shak|remain))",
    re.IGNORECASE,
)
_FOLLOWS = re.compile(r"(?:\w+ly )?(?:is )?(?:follow|track)(?:s|ing)\b", re.IGNORECASE)
_ADVERBS = r"(?:\w+ly\s+|slightly\s+|further\s+|then\s+|back\s+|across\s+|around\s+|over\s+)*"
_WAY = r"(?:(?:to|towards?)\s+(?:the\s+|its\s+)?|from\s+(?:the\s+)?(?:left|right)\s+to\s+(?:the\s+)?)?"
_NOT_THERE = r"(?!\s*[- ](?:of|hand|side|behind|next|beside|on the|in the|corner)\b)"
# What the camera does → the label. In this order the first that fits a place is taken.
_DOES: tuple[tuple[CameraClaim, str], ...] = (
    ("pan left", rf"\bpan(?:s|ning|ned)?\s+{_ADVERBS}{_WAY}left(?:wards?)?\b{_NOT_THERE}"),
    ("pan right", rf"\bpan(?:s|ning|ned)?\s+{_ADVERBS}{_WAY}right(?:wards?)?\b{_NOT_THERE}"),
    ("pan left", rf"\b(?:mov|slid|sweep|swing|turn|rotat)(?:es?|s|ing)\s+{_ADVERBS}{_WAY}left(?:wards?)?\b"),
    ("pan right", rf"\b(?:mov|slid|sweep|swing|turn|rotat)(?:es?|s|ing)\s+{_ADVERBS}{_WAY}right(?:wards?)?\b"),
    ("tilt up", rf"\b(?:tilt|pan)(?:s|ning|ing|ed)?\s+{_ADVERBS}up(?:wards?)?\b"),
    ("tilt down", rf"\b(?:tilt|pan)(?:s|ning|ing|ed)?\s+{_ADVERBS}down(?:wards?)?\b"),
    ("zoom in", rf"\b(?:zoom(?:s|ing)?|push(?:es|ing)?|doll(?:ies|ying)|mov(?:es|ing))\s+{_ADVERBS}(?:in\b|closer\b)"),
    (
        "zoom out",
        rf"\b(?:zoom(?:s|ing)?|pull(?:s|ing)?|doll(?:ies|ying)|mov(?:es|ing))\s+{_ADVERBS}(?:out\b|back\b|away\b)",
    ),
    ("roll counterclockwise", rf"\b(?:roll|rotat|turn)(?:e?s|ing)\s+{_ADVERBS}(?:counter-?|anti-?)clockwise\b"),
    ("roll clockwise", rf"\b(?:roll|rotat|turn)(?:e?s|ing)\s+{_ADVERBS}clockwise\b"),
    (
        "shake",
        r"\b(?:shakes|shaking|trembles|trembling|sways|swaying|wobbles|jitters|is (?:handheld|hand-held|shaky|"
        r"unsteady))\b",
    ),
    (
        "moving",
        r"\b(?:pans|panning|tilts|tilting|moves|moving|tracks|tracking|follows|following|drifts|drifting|glides|"
        r"gliding|"
        r"circles|circling|orbits|orbiting|dollies|zooms|zooming|rotates|rotating|sweeps|sweeping|travels|flies|pushes|"
        r"is in motion)\b",
    ),
    (
        "static",
        r"\b(?:(?:is|remains?|remaining|stays?|staying|holds?|holding|stands?|keeps?|appears?|seems to be|"
        r"being)\s+)?(?:\w+ly\s+)?"
        r"(?:static|stationary|motionless|unmoving|(?:fixed|locked)(?! (?:on|upon|to|onto)\b)|still(?!\s+\w+(?:ing|"
        r"s)\b)|"
        r"in (?:place|a fixed position))(?=$|[\s,.])|\bwithout (?:any )?(?:moving|movement|motion)\b",
    ),
    (
        "static",
        r"^(?:\w+ly )?(?:does not|doesn't|never|did not) (?:move|pan|tilt|zoom|shift)(?! (?:much|far|left|right))",
    ),
)
_DOES_PATTERNS = tuple((claim, re.compile(pattern, re.IGNORECASE)) for claim, pattern in _DOES)
# Said of a shot, with no subject.
_SLOW = r"(?:slow|quick|fast|gentle|smooth|steady|camera|whip|rapid|subtle|gradual|leftward|rightward|slight)"
_NOUNS: tuple[tuple[CameraClaim, str], ...] = (
    (
        "pan left",
        rf"\b{_SLOW}\s+pan\s+(?:{_WAY})left\b{_NOT_THERE}|\bleft(?:ward)? (?:camera )?pan\b|\bpanning {_WAY}left\b",
    ),
    (
        "pan right",
        rf"\b{_SLOW}\s+pan\s+(?:{_WAY})right\b{_NOT_THERE}|\bright(?:ward)? (?:camera )?pan\b|\bpanning {_WAY}right\b",
    ),
    ("pan left", rf"^pans? (?:\w+ly )?{_WAY}left\b(?! (?:on|out|in|behind|next|beside|by|to cool|over)\b)"),
    ("pan right", rf"^pans? (?:\w+ly )?{_WAY}right\b(?! (?:on|out|in|behind|next|beside|by|over)\b)"),
    ("tilt up", rf"\b{_SLOW}\s+tilt up(?:wards?)?\b|\bupward (?:camera )?tilt\b"),
    ("tilt down", rf"\b{_SLOW}\s+tilt down(?:wards?)?\b|\bdownward (?:camera )?tilt\b"),
    ("zoom in", rf"\b{_SLOW}\s+(?:zoom|push)[- ]in\b|^zoom(?:s|ing)? (?:\w+ly )?in\b(?! from)"),
    ("zoom out", rf"\b{_SLOW}\s+(?:zoom|pull)[- ](?:out|back)\b|^zoom(?:s|ing)? (?:\w+ly )?out\b"),
    (
        "moving",
        r"\b(?:panning|tracking|dolly|zooming|crane|orbiting) shot\b|\b(?:moving|roving|"
        r"tracking) camera\b(?! (?:crew|car))|"
        r"\bcamera (?:pan|tilt|zoom|roll|movements?|motion)\b(?! (?:is|are) (?:minimal|absent|none|limited))",
    ),
    (
        "shake",
        r"\b(?:shaky|handheld|hand-held) (?:camera(?! in (?:his|her|their))|footage|shot|video|style|camerawork)\b|"
        r"\bcamera shake\b",
    ),
    (
        "static",
        r"\b(?:static|stationary|locked[- ](?:off|down)|motionless|unmoving|fixed) (?:\w+ )?(?:camera|shot|framing|"
        r"viewpoint|perspective|vantage point|camera (?:angle|position))\b(?! (?:hangs?|mounted|on the|attached|"
        r"system|crew))",
    ),
    (
        "static",
        r"\b(?:no|without(?: any)?|zero|absence of) (?:\w+ )?camera (?:movement|motion|moves?)\b|\bcamera: static\b",
    ),
)
_NOUN_PATTERNS = tuple((claim, re.compile(pattern, re.IGNORECASE)) for claim, pattern in _NOUNS)


def camera_claims(text: str) -> frozenset[CameraClaim]:
    """What is claimed of the camera; nothing where the text does not speak of it."""
    return frozenset(claim for sentence in _sentences(text) for claim in _camera_claims_in(sentence))


def _camera_claims_in(sentence: str) -> Iterator[CameraClaim]:
    for pattern in (_CAMERA, _SHOT):
        for found in pattern.finditer(sentence):
            does = found["does"]
            if _FOLLOWS.match(does):  # whatever comes next is done by what it follows
                yield "moving"
                continue
            does = does[: cut.start()] if (cut := _NEXT_SUBJECT.search(does)) else does
            yield from _first_fits(does, _DOES_PATTERNS, sentence)
    yield from _first_fits(sentence, _NOUN_PATTERNS, sentence)


def _first_fits(
    text: str, patterns: Iterable[tuple[CameraClaim, re.Pattern[str]]], sentence: str
) -> Iterator[CameraClaim]:
    taken: list[tuple[int, int]] = []
    for claim, pattern in patterns:
        for found in pattern.finditer(text):
            start, end = found.span()
            # "no camera movement" is a claim as it stands, and "camera movement" in it none.
            is_own = claim == "static" and _NEGATION.search(found[0])
            is_inside = any(start < to and end > since for since, to in taken)
            if is_inside or (not is_own and _is_denied(text, start)):
                continue
            taken.append((start, end))
            if claim == "static" and _AND_THEN.search(sentence):
                continue
            yield claim
