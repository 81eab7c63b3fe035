"""Compressed files: detected by their first bytes, and decompressed while they are read. Rows are not handled here."""

from __future__ import annotations

import bz2
import io
import lzma
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any, Callable, Optional

from ...exceptions import ConfigurationError
from .raw import MadeBytes

BLOCK = 32_768
"""Bytes read at a time when a stream is split into rows; few enough that no row is delayed."""

LONGEST_MAGIC = 10
"""Number of bytes that identify every compression."""

LAYERS = 2
"""How many times a file may be compressed: `mails.csv.gz` in `mails.zip`."""

BREAKS_OFF = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""The exceptions for compressed data that is truncated or damaged."""

_XZ_MEMORY = 1 << 28
"""Bytes of memory for decompressing xz; `xz -9` needs a quarter of it."""

_ZSTD_WINDOW = 1 << 27
"""Largest zstd window in bytes: the limit of `zstd` itself without further options."""

_ZSTD_STEP = 512
"""Compressed bytes per step: they become at most about 20 MB, since `zstandard` does not limit a step."""

_BZIP2 = (b"1AY&SY", b"\x17rE8P\x90")

_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip")

_ARCHIVES = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x04\x22\x4d\x18": "compressed with lz4",
    b"\x1f\x9d": "compressed with compress",
    b"\x5d\x00\x00": "compressed with lzma",
}


class TrailingData(OSError):
    """Other data follows the end of the compressed data."""


def packing_of(head: bytes) -> Optional[str]:
    """Return `gzip`, `bzip2`, `xz`, `zstd` or `zip` by the first bytes; `None` for others."""
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    # A file that is truncated within these bytes is compressed too.
    if head[:3] == b"BZh" and head[3:4].isdigit() and any(magic.startswith(head[4:10]) for magic in _BZIP2):
        return "bzip2"
    if head[:6] == b"\xfd7zXZ\x00":
        return "xz"
    # A frame, or an empty frame that is skipped.
    if head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and head[:1] and head[0] >> 4 == 5):
        return "zstd"
    return "zip" if head[:4] in {b"PK\x03\x04", b"PK\x05\x06"} else None


def archive_of(head: bytes) -> Optional[str]:
    """Describe an unsupported compressed file or archive; `None` for others."""
    if head[257:262] == b"ustar":
        return "a tar archive"
    return next((told for magic, told in _ARCHIVES.items() if head.startswith(magic)), None)


def without_packing(name: str) -> str:
    """Return a file's name without the suffixes of its compressions."""
    for _ in range(LAYERS):
        suffix = next((suffix for suffix in _SUFFIXES if name.lower().endswith(suffix)), "")
        name = name[: len(name) - len(suffix)]
    return name


def unpacked(packed: IO[bytes], packing: str) -> io.BufferedReader:
    """Return the decompressed bytes of `packed`. Raises `ConfigurationError` if a library is missing."""
    makes: dict[str, Callable[[], Any]] = {
        "gzip": lambda: _Gzip(zlib.decompressobj(wbits=31)),
        "bzip2": bz2.BZ2Decompressor,
        "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
    }
    make = makes[packing] if packing in makes else _zstd()
    return io.BufferedReader(_Unpacked(packed, packing, make), BLOCK)


def document_in(names: Collection[str]) -> Optional[str]:
    """Return `xlsx`, or a description of another document whose archive has these names; `None` for others."""
    if "xl/workbook.xml" in names:
        return "xlsx"
    if "xl/workbook.bin" in names:
        return "a binary Excel workbook (.xlsb)"
    if "mimetype" in names:
        return "an OpenDocument file (.ods)"
    return "an Office document" if "[Content_Types].xml" in names else None


def cut_off(error: Exception) -> str:
    """The message for an input that breaks off."""
    if isinstance(error, TrailingData):
        return "something else follows the end of the compressed data, which is not read: remove it"
    return f"the input ends in the middle ({error}): what follows is not read"


class _Adapted:
    """A decompressor with the interface of those of `bz2` and `lzma`."""

    def __init__(self, made: Any) -> None:
        self._made = made

    @property
    def eof(self) -> bool:
        return bool(self._made.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._made.unused_data)


class _Gzip(_Adapted):
    """A decompressor of `zlib`."""

    def decompress(self, data: bytes, most: int) -> bytes:
        return bytes(self._made.decompress(self._made.unconsumed_tail + data, most))

    @property
    def needs_input(self) -> bool:
        return not self._made.unconsumed_tail


class _WholeSteps(_Adapted):
    """A decompressor of `zstandard`, which does not limit a step."""

    needs_input = True

    def decompress(self, data: bytes, most: int) -> bytes:
        return bytes(self._made.decompress(data))


def _zstd() -> Callable[[], Any]:
    try:
        from compression.zstd import (  # type: ignore[import-not-found,unused-ignore]  # from Python 3.14 on
            DecompressionParameter,
            ZstdDecompressor,
        )
    except ImportError:
        pass
    else:
        options = {DecompressionParameter.window_log_max: _ZSTD_WINDOW.bit_length() - 1}
        return lambda: ZstdDecompressor(options=options)
    try:
        import zstandard
    except ImportError:
        raise ConfigurationError("reading zstd needs zstandard: pip install zstandard") from None
    made = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    return lambda: _WholeSteps(made.decompressobj())


class _Unpacked(MadeBytes):
    """The decompressed content of one or more consecutive streams of the same compression.

    Raises an error of `BREAKS_OFF` for a truncated or damaged stream, and `TrailingData`. The standard library's
    readers treat trailing data as padding or lose the data before an error, and have no memory limit.
    """

    def __init__(self, packed: IO[bytes], packing: str, make: Callable[[], Any]) -> None:
        self._packed: Any = packed
        self._packing = packing
        self._make = make
        self._stream = make()
        self._rest = b""
        self._over = False

    def more(self, most: int) -> bytes:
        """See `MadeBytes`."""
        made = b""
        while not made and not self._over:
            try:
                made = self._step(most)
            except BREAKS_OFF:
                raise
            except Exception as error:
                # `zstandard` and `compression.zstd` each have such a class; naming it would mean importing them.
                if type(error).__name__ != "ZstdError":
                    raise
                raise OSError(str(error)) from None
        return made

    def _step(self, most: int) -> bytes:
        """Decompress the next bytes; the result may be empty."""
        if self._stream.eof:
            self._begin_next()
            return b""
        data = b""
        if self._stream.needs_input:
            data = self._rest or self._read()
            if not data:
                raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            step = _ZSTD_STEP if isinstance(self._stream, _WholeSteps) else len(data)
            data, self._rest = data[:step], data[step:]
        made: bytes = self._stream.decompress(data, most)
        return made

    def _begin_next(self) -> None:
        """Start on the next stream, if another one follows. Raises `TrailingData`."""
        rest = self._stream.unused_data + self._rest or self._read()
        # Zero padding, as tapes and some servers add.
        while rest and not rest.strip(b"\0"):
            rest = self._read()
        rest = rest.lstrip(b"\0")
        if not rest:
            self._over = True
            return
        while len(rest) < LONGEST_MAGIC and (more := self._read()):
            rest += more
        if packing_of(rest) != self._packing:
            raise TrailingData
        self._stream, self._rest = self._make(), rest

    def _read(self) -> bytes:
        data: bytes = self._packed.read1(BLOCK)
        return data


class ZippedFile:
    """The only file in a zip archive. Raises `ConfigurationError` for an archive with none or several.

    `names` are all its files, except those that macOS adds. `called` is the archive's name in errors.
    """

    def __init__(self, path: Path, called: Optional[str] = None) -> None:
        self._path = path
        self._called = called or str(path)
        try:
            with zipfile.ZipFile(path) as archive:
                found = [info for info in archive.infolist() if not info.is_dir()]
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise ConfigurationError(f"{self._called} cannot be read: {error}") from None
        self._files = [info for info in found if not info.filename.startswith("__MACOSX/")]
        self.names = [info.filename for info in self._files]
        self.size = sum(info.file_size for info in self._files)

    @property
    def name(self) -> str:
        """The file's name."""
        if len(self._files) != 1:
            named = ", ".join(self.names[:3]) + (", …" if len(self.names) > 3 else "")
            told = f"holds {len(self.names)} files ({named})" if self.names else "is an empty archive"
            raise ConfigurationError(f"{self._called} {told}: unpack it, and name the file that has the rows")
        return self.names[0]

    def open(self) -> io.BufferedReader:
        """The file's bytes."""
        name = self.name
        if self._files[0].flag_bits & 1:
            raise ConfigurationError(f"{self._called} is encrypted: unpack it first")
        try:
            return io.BufferedReader(_Closing(zipfile.ZipFile(self._path), name), BLOCK)
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise ConfigurationError(f"{self._called} cannot be read: {error}") from None


class _Closing(MadeBytes):
    """A file in an archive; closing it closes the archive."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._archive = archive
        try:
            self._file: Any = archive.open(name)
        except BaseException:
            archive.close()
            raise

    def more(self, most: int) -> bytes:
        """See `MadeBytes`."""
        try:
            data: bytes = self._file.read1(most)
        except zipfile.BadZipFile as error:
            raise OSError(str(error)) from None
        return data

    def close(self) -> None:
        """Close both."""
        self._archive.close()
        super().close()
