"""The token that a server may ask for: how it is compared, and what a browser keeps of it."""

import hashlib
import hmac


def bare(token: str) -> bytes:
    """Its bytes, without the blanks and line ends that come with a file or a copy."""
    return token.strip().encode("utf-8", "surrogateescape")


def same(given: bytes, token: str) -> bool:
    """Whether a token is the one, in a time that tells nothing of it."""
    return hmac.compare_digest(given.strip(), bare(token))


def kept(token: str) -> str:
    """What a cookie holds: no letter of the token, for a cookie cannot hold every letter."""
    return hashlib.sha256(bare(token)).hexdigest()
