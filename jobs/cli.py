"""Command lines from typed dataclasses, by tyro: every field is an option, in a file or on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml

from curation.presets import PRESETS, described_presets, preset_arguments

__all__ = ["parse"]

Config = TypeVar("Config")

CONFIG_HELP = "--config FILE takes options from a YAML file (min_seconds: 2); the command line has the last word."
PRESET_HELP = (
    "--preset NAME sets a published recipe's thresholds, and other options win. Names: "
    f"{', '.join(PRESETS)}; --preset list shows every threshold with its source."
)


def parse(
    kind: type[Config], *, prog: str, argv: Sequence[str] | None = None, more: str = "", has_presets: bool = False
) -> Config:
    """The config that the command line asks for. Exits with a message and code 2 where it is unknown or impossible.

    The help begins with the first paragraph of the config's docstring and ends with `more`. Groups of options are
    nested dataclasses; the options themselves have no prefix. A config refuses impossible values with a ValueError that
    names field, value and rule, which becomes the message. With `has_presets`, a config has thresholds and a field
    `preset`, whose values come before those of the file and of the command line.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    before = argparse.ArgumentParser(prog=prog, add_help=False, allow_abbrev=False)
    before.add_argument("--config", type=Path)
    known, rest = before.parse_known_args(argv)
    try:
        asked = [*(file_arguments(known.config) if known.config else []), *rest]
        about = str(kind.__doc__).split("\n\n")[0]
        return tyro.cli(
            kind,
            prog=prog,
            description="\n\n".join(filter(None, [about, CONFIG_HELP, PRESET_HELP if has_presets else "", more])),
            args=[*(of_preset(asked) if has_presets else ()), *asked],
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except ValueError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def of_preset(asked: Sequence[str]) -> list[str]:
    """The options that the last --preset stands for. `list` prints all presets and exits. Raises ValueError."""
    before = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    before.add_argument("--preset")
    name = before.parse_known_args(list(asked))[0].preset
    if name == "list":
        print(described_presets())
        raise SystemExit(0)
    return [] if name is None else preset_arguments(name)


def file_arguments(path: Path) -> list[str]:
    """The options of a YAML file as arguments, so that a file and a command line mean exactly the same.

    Raises ValueError naming the file where it cannot be read or is not a plain mapping of options.
    """
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"config={path}: cannot be read: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"config={path}: must map options to values, such as `min_seconds: 2`")
    arguments: list[str] = []
    for name, value in options.items():
        arguments += _argument(str(name).replace("_", "-"), value)
    return arguments


def _argument(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, dict):
        return [f"--{name}", *(str(part) for pair in value.items() for part in pair)]
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}", str(value)]
