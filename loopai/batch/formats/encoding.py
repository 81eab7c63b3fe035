"""Encodings of text files: found by their first bytes, and read as UTF-8 where a reader takes bytes."""

from __future__ import annotations

import codecs
import unicodedata
from typing import IO, Any, Optional

from ...exceptions import OptionError
from .packing import BLOCK
from .raw import MadeBytes

_MARKS = (  # UTF-16's mark is the start of UTF-32's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UTF8 = "utf-8-sig"


def is_utf8(encoding: str) -> bool:
    """Whether that is a name of UTF-8."""
    return encoding.lower().replace("-", "").replace("_", "") in {"utf8", "utf8sig"}


def checked(encoding: str) -> str:
    """The encoding as Python names it. Raises `OptionError` for an unknown text encoding."""
    try:
        if codecs.lookup(encoding)._is_text_encoding:  # as `open` looks; `rot13` and `zlib` are none
            return _UTF8 if is_utf8(encoding) else encoding
    except LookupError:
        pass
    raise OptionError("{encoding}: unknown encoding {value!r}", value=encoding)


def encoding_of(head: bytes, given: str = _UTF8) -> str:
    """The encoding of a text with these first bytes that is said to be `given`.

    What is said to be UTF-8 is UTF-16 or UTF-32 if its mark says so, or the zeros in it, which no text in UTF-8 has.
    Raises `OptionError` for another encoding of a text with the mark of UTF-8.
    """
    if not is_utf8(given):
        if head.startswith(codecs.BOM_UTF8):
            raise OptionError("{encoding} {value}: the input starts with the mark of UTF-8, and is that", value=given)
        return given
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    return _by_zeros(head) or _UTF8


def _by_zeros(head: bytes) -> Optional[str]:
    if b"\0" not in head:
        return None
    whole = head[: len(head) // 4 * 4]
    for name, places in (("utf-32-le", (2, 3)), ("utf-32-be", (0, 1))):
        if whole and not any(whole[place::4].strip(b"\0") for place in places) and _is_text(whole, name):
            return name
    even, odd = head[::2].count(b"\0"), head[1::2].count(b"\0")
    if even and odd:
        return _by_letters(head)
    name = "utf-16-le" if odd else "utf-16-be"
    text = head[: len(head) // 2 * 2].decode(name, "replace")
    # A zero byte by mistake makes no line breaks of two bytes; without any line break, half of the bytes are zeros.
    return name if "\n" in text or "\r" in text or (even or odd) * 4 >= len(head) else None


def _by_letters(head: bytes) -> Optional[str]:
    """UTF-16 of letters with zeros on either side, as Chinese has: lines of assigned characters, one way round only."""
    whole = head[: len(head) // 2 * 2]
    found = []
    for name in ("utf-16-le", "utf-16-be"):
        text = whole.decode(name, "replace").replace("\ufffd", "", 1)  # a pair that the last bytes cut in two
        marks = {character for character in text if unicodedata.category(character) in {"Cc", "Cn", "Co"}}
        if "\n" in text and marks <= {"\n", "\r", "\t"}:
            found.append(name)
    return found[0] if len(found) == 1 else None


def _is_text(head: bytes, encoding: str) -> bool:
    try:
        return "\0" not in head.decode(encoding)
    except UnicodeDecodeError:
        return False


class AsUtf8(MadeBytes):
    """A text's bytes as UTF-8. Raises `UnicodeDecodeError` for what is not text in its encoding."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream: Any = stream
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._over = False

    def more(self, most: int) -> bytes:
        """See `MadeBytes`."""
        text = ""
        while not text and not self._over:
            data = self._stream.read1(BLOCK)
            self._over = not data
            text = self._decoder.decode(data, final=self._over)
        return text.encode("utf-8", "surrogatepass")


def not_in(place: str, encoding: str) -> str:
    """What is said of a place that is not text in the encoding."""
    return f"{place} is not {encoding.replace('-sig', '')}: pass the encoding of the file"
