"""Numbers and names as words for people. Names come from footage: what cannot be seen in them is made visible."""

from __future__ import annotations

import math
import re
from typing import Any

__all__ = ["clock", "count", "finite", "number", "share", "size", "visible"]

GROUP = "\u202f"  # narrow no-break space: 1 234
# Control characters, and those that turn the direction of the text around them or break lines.
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object) -> str:
    """Text with every unseen character spelled out: a line feed is `\\n`, a right-to-left override `\\u202e`."""
    return UNSEEN.sub(lambda match: match.group().encode("unicode_escape", "surrogatepass").decode(), str(text))


def count(n: int) -> str:
    return f"{n:,}".replace(",", GROUP)


def number(value: float | bool | None) -> str:
    """Three or four digits that matter; yes and no for a flag; a dash for what was not measured."""
    if value is None:
        return "–"  # noqa: RUF001 - a dash
    if isinstance(value, bool):
        return "yes" if value else "no"
    if math.isinf(value):
        return "∞"
    if isinstance(value, int) or abs(value) >= 1000:
        return count(round(value))
    if value == 0 or abs(value) < 1e-3:
        return f"{value:.2g}"
    text = f"{value:.{3 if abs(value) < 10 else 2 if abs(value) < 100 else 1}f}"
    return text.rstrip("0").rstrip(".")


def clock(seconds: float) -> str:
    """`0.04 s`, `12.3 s`, `4 min 05 s`, `3.4 h`."""
    if seconds < 59.95:
        return f"{number(round(seconds, 2 if seconds < 10 else 1))} s"
    if seconds < 90 * 60:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    return f"{seconds / 3600:,.1f} h".replace(",", GROUP)


def finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: null instead."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def timecode(seconds: float) -> str:
    """`1:02:03.4`: where in a source."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def size(size_bytes: float) -> str:
    """`12.3 MB`, in powers of 1000."""
    if size_bytes < 1000:
        return f"{size_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size_bytes /= 1000
        if size_bytes < 999.95:
            return f"{size_bytes:.1f} {unit}"
    return f"{size_bytes / 1000:,.1f} TB".replace(",", GROUP)


def share(part: float, whole: float) -> str:
    """`62 %`; a share that is not nothing never reads 0 %, one that is not all never 100 %."""
    if not whole:
        return ""
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.1f} %"
