"""Encodings of text files: detected by their first bytes, and converted to UTF-8 for readers of bytes."""

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
    """Whether this is a name of UTF-8."""
    return encoding.lower().replace("-", "").replace("_", "") in {"utf8", "utf8sig"}


def checked(encoding: str) -> str:
    """Return the encoding by Python's name. Raises `OptionError` for an unknown text encoding."""
    try:
        if codecs.lookup(encoding)._is_text_encoding:  # the same check as `open`; `rot13` and `zlib` are not text
            return _UTF8 if is_utf8(encoding) else encoding
    except LookupError:
        pass
    raise OptionError("{encoding}: unknown encoding {value!r}", value=encoding)


def encoding_of(head: bytes, given: str = _UTF8) -> str:
    """Return the encoding of a text with these first bytes that is declared as `given`.

    If UTF-8 is declared, a byte order mark or zero bytes, which UTF-8 text never has, reveal UTF-16 or UTF-32. Raises
    `OptionError` if another encoding is declared for a text with the UTF-8 mark.
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
    # A stray zero byte does not make two-byte line breaks; without any line break, half of the bytes must be zeros.
    return name if "\n" in text or "\r" in text or (even or odd) * 4 >= len(head) else None


def _by_letters(head: bytes) -> Optional[str]:
    """Detect UTF-16 without zero bytes, such as Chinese: lines of assigned characters in only one byte order."""
    whole = head[: len(head) // 2 * 2]
    found = []
    for name in ("utf-16-le", "utf-16-be"):
        text = whole.decode(name, "replace").replace("\ufffd", "", 1)  # a surrogate pair cut by the end of the bytes
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
    """The message for a place that is not text in the encoding."""
    return f"{place} is not {encoding.replace('-sig', '')}: pass the encoding of the file"
