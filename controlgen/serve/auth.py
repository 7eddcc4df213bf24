"""The token of a server: comparison in constant time, and the cookie that stands for it."""

import hashlib
import hmac


def token_bytes(token: str) -> bytes:
    """The token as bytes, without the whitespace that comes with a file or a copy."""
    return token.strip().encode("utf-8", "surrogateescape")


def tokens_equal(received: bytes, token: str) -> bool:
    """Compare in a time that does not depend on where the two differ."""
    return hmac.compare_digest(received.strip(), token_bytes(token))


def cookie_value(token: str) -> str:
    """A hash of the token: a cookie cannot hold every character that a token may have."""
    return hashlib.sha256(token_bytes(token)).hexdigest()
