"""SQL conditions that a user gave: checked before they are used, and joined with others without changing what they ask.

Lance reads as much of a text as makes a condition and passes over the rest, so that "a > 1) OR (true" alone asks for
a > 1, and in brackets for everything.
"""

from __future__ import annotations

import lance

__all__ = ["check_condition", "narrowed"]


def check_condition(clips: lance.LanceDataset, where: str) -> None:
    """Raises ValueError or OSError where a text is not one whole condition on the clips."""
    clips.count_rows(where)
    try:
        clips.count_rows(narrowed(where, "true"))
        # A bracket that closes more than the condition opened leaves this without its end.
        clips.count_rows(f"CAST({where}\n AS BOOLEAN)")
    except (ValueError, OSError) as error:
        raise ValueError("not one whole condition: its brackets do not match, or something follows it") from error


def narrowed(where: str, also: str) -> str:
    """Both conditions together. The line ends before the bracket: `where` may end in a comment."""
    return f"({where}\n) AND {also}"
