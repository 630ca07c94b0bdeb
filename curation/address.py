"""Paths and addresses as text: which is which, how any file name becomes text and back, and who opens an address."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import fsspec

__all__ = ["PATIENCE_S", "SCHEMES", "WEB", "filesystem_of", "path_of", "scheme_of", "uri_of"]

SCHEMES = frozenset({"s3", "gs", "gcs", "http", "https", "file"})
WEB = frozenset({"http", "https"})
# How long a server may be silent.
PATIENCE_S = 60


def uri_of(path: str) -> str:
    """A local path as text that any table holds: itself, or a `file://` address where its bytes are no UTF-8.

    In the address those bytes and the percent sign are percent-encoded, and nothing else, so that it stays legible.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return "file://" + "".join(map(_encoded, path))
    return path


def _encoded(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python writes a byte that is no UTF-8 (PEP 383)
        return f"%{ord(character) - 0xDC00:02X}"
    # Other surrogates are no bytes of any file's name.
    return "%25" if character == "%" else character.encode(errors="replace").decode()


def path_of(uri: str) -> str | None:
    """The local path of a path or `file://` address, None for an address elsewhere. The inverse of `uri_of`."""
    scheme = scheme_of(uri)
    if scheme != "file":
        return uri if scheme is None else None
    rest = uri[len("file://") :]
    return unquote(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest, errors="surrogateescape")


def scheme_of(spec: str) -> str | None:
    """The scheme of an address that can be read, None for a path: `a:b`, `http:/x` and `subfile,,x` are names."""
    scheme, separator, _ = spec.partition("://")
    return scheme.lower() if separator and scheme.lower() in SCHEMES else None


def filesystem_of(uri: str) -> tuple[Any, str]:
    """The fsspec filesystem of an address and the path in it. Raises whatever the filesystem raises.

    The scheme alone chooses it: fsspec would read `::` and `*` in an address as orders to open other things. Listings
    are not kept, because they grow and go stale.
    """
    scheme = scheme_of(uri)
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme in WEB:
        import aiohttp

        # A long file takes long: what must not be is silence.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE_S, sock_read=PATIENCE_S)
        options["client_kwargs"] = {"timeout": timeout}
    filesystem = fsspec.filesystem(scheme, **options)
    return filesystem, filesystem._strip_protocol(f"{scheme}://{uri.partition('://')[2]}")
