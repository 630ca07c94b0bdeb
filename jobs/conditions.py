"""SQL conditions of a command line, refused before any work is done for them."""

from __future__ import annotations

import sys

from curation.conditions import check_condition
from curation.store import Store

__all__ = ["refuse_unless_condition"]


def refuse_unless_condition(store: Store, where: str, job: str) -> None:
    """End the job with exit code 2 where the clips cannot be asked this."""
    try:
        check_condition(store.open("clips"), where)
    except (OSError, ValueError) as error:
        text = str(error).splitlines()[0]
        print(f"{job}: where={where}: cannot be asked of the clips: {text[:300]}", file=sys.stderr)
        raise SystemExit(2) from None
