"""Raw bytes to the bytes of one table: hashing, gzip and zip with limits, text encodings; nothing is read whole.

The limits keep a hostile or broken file from filling memory or running for ever.
"""

from __future__ import annotations

import codecs
import hashlib
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Protocol, cast

from conditioning.reasons import FileRefused

CHUNK_BYTES = 1 << 20
PEEK_BYTES = 1 << 16
SPOOL_BYTES = 8 << 20  # archives up to this size are held in memory, larger ones on local temp disk
BOMB_RATIO = 250  # text of tables compresses 5- to 40-fold; a thousandfold is an attack or garbage
BOMB_FLOOR_BYTES = 32 << 20  # below this size the ratio proves nothing


@dataclass(frozen=True)
class Limits:
    """What one file may cost."""

    expanded_bytes: int = 64 << 30
    workbook_bytes: int = 256 << 20  # workbooks and JSON documents are parsed whole
    document_bytes: int = 256 << 20


class Stream(Protocol):
    """Bytes, forwards only."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, b"" at the end."""


class Metered:
    """Passes bytes on and knows their count and SHA-256; `drain` reads what nobody wanted."""

    def __init__(self, stream: Stream) -> None:
        self.size = 0
        self._stream = stream
        self._sha256 = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """Read on."""
        data = self._stream.read(size)
        self.size += len(data)
        self._sha256.update(data)
        return data

    def drain(self) -> None:
        """Read to the end, so that the hash is the whole file's."""
        while self.read(CHUNK_BYTES):
            pass

    @property
    def sha256(self) -> str:
        """Hash of what was read so far."""
        return self._sha256.hexdigest()


class Peeked:
    """A stream whose beginning was looked at."""

    def __init__(self, stream: Stream, size: int = PEEK_BYTES) -> None:
        self._stream = stream
        self._held = read_up_to(stream, size)
        self.head = self._held

    def read(self, size: int = -1, /) -> bytes:
        """Read on; the beginning comes first."""
        if self._held:
            held, self._held = (self._held, b"") if size < 0 else (self._held[:size], self._held[size:])
            return held + self._stream.read() if size < 0 else held
        return self._stream.read(size)


def read_up_to(stream: Stream, size: int) -> bytes:
    """Fill `size` bytes although the stream may give fewer at a time."""
    parts, have = [], 0
    while have < size and (part := stream.read(size - have)):
        parts.append(part)
        have += len(part)
    return b"".join(parts)


def read_document(stream: Stream, name: str, limit: int) -> bytes:
    """Read a document that can only be parsed whole; refuse one beyond the limit."""
    data = read_up_to(stream, limit + 1)
    if len(data) > limit:
        raise FileRefused(
            "decompression_bomb",
            f"{name} holds more than {limit >> 20} MB, too much for a document that is parsed whole",
            file=name,
            value=f"> {limit} bytes",
        )
    return data


class Gunzip:
    """Expands gzip; a cut or damaged file and a bomb are refused by name."""

    def __init__(self, stream: Stream, name: str, limits: Limits) -> None:
        self._stream = stream
        self._name = name
        self._limits = limits
        self._inflate = zlib.decompressobj(wbits=31)
        self._left = b""
        self._taken = self._given = 0
        self._done = False

    def read(self, size: int = -1, /) -> bytes:
        """Return expanded bytes."""
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK_BYTES), b""))
        while not self._done:
            if not self._left:
                self._left = self._stream.read(CHUNK_BYTES)
                self._taken += len(self._left)
            if self._inflate.eof and not self._next_member():
                break
            if not self._left:
                raise FileRefused(
                    "truncated_file",
                    f"{self._name}: the gzip data ends in the middle",
                    file=self._name,
                    value=f"{self._taken} bytes",
                )
            try:
                data = self._inflate.decompress(self._left, max(size, 1))
            except zlib.error as error:
                raise FileRefused(
                    "corrupt_file", f"{self._name}: the gzip data is damaged ({error})", file=self._name
                ) from error
            self._left = self._inflate.unconsumed_tail or (self._inflate.unused_data if self._inflate.eof else b"")
            self._given += len(data)
            check_bomb(self._name, self._taken, self._given, self._limits)
            if data:
                return data
        self._done = True
        return b""

    def _next_member(self) -> bool:
        if not self._left.strip(b"\0"):
            self._left = b""
            return False
        if self._left[:2] != b"\x1f\x8b":
            raise FileRefused(
                "corrupt_file", f"{self._name}: something that is not gzip follows the gzip data", file=self._name
            )
        self._inflate = zlib.decompressobj(wbits=31)
        return True


def check_bomb(name: str, taken: int, given: int, limits: Limits) -> None:
    """Refuse a file that expands out of all proportion."""
    if given > limits.expanded_bytes or (given > BOMB_FLOOR_BYTES and given > BOMB_RATIO * max(taken, 1)):
        raise FileRefused(
            "decompression_bomb",
            f"{name} expands from {taken} to more than {given} bytes",
            file=name,
            value=f"{given} bytes",
        )


def spooled(stream: Stream) -> IO[bytes]:
    """Copy a stream to where it can be read in any order: memory, then local temp disk."""
    spool = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 - lives as long as the reader
    while data := stream.read(CHUNK_BYTES):
        spool.write(data)
    spool.seek(0)
    return cast("IO[bytes]", spool)


class ZipMember:
    """The one member of an archive, as a stream with limits."""

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, limits: Limits) -> None:
        self.name = member.filename.rsplit("/", 1)[-1]
        self._file = archive.open(member)
        self._packed = max(member.compress_size, 1)
        self._where = f"{name}:{member.filename}"
        self._limits = limits
        self._given = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return expanded bytes."""
        try:
            data = self._file.read(CHUNK_BYTES if size < 0 else size)
            if size < 0 and data:
                data += b"".join(iter(lambda: self._file.read(CHUNK_BYTES), b""))
        except EOFError as error:
            raise FileRefused("truncated_file", f"{self._where} ends in the middle", file=self._where) from error
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, ValueError) as error:
            raise FileRefused("corrupt_file", f"{self._where} is damaged ({error})", file=self._where) from error
        self._given += len(data)
        check_bomb(self._where, self._packed, self._given, self._limits)
        return data


def open_zip(spool: IO[bytes], name: str) -> zipfile.ZipFile:
    """Open an archive; a damaged one is refused."""
    try:
        return zipfile.ZipFile(spool)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FileRefused("truncated_file", f"{name}: the archive cannot be read ({error})", file=name) from error


def only_member(archive: zipfile.ZipFile, name: str, limits: Limits) -> ZipMember:
    """Return the single file of an archive; refuse none, several or encrypted ones."""
    members = [item for item in archive.infolist() if not item.is_dir() and "__MACOSX" not in item.filename]
    if len(members) != 1:
        shown = ", ".join(item.filename for item in members[:5]) or "nothing"
        raise FileRefused(
            "several_members", f"{name} must hold exactly one file and holds {shown}", file=name, value=shown
        )
    if members[0].flag_bits & 1:
        raise FileRefused("encrypted_file", f"{name}:{members[0].filename} is encrypted", file=name)
    try:
        return ZipMember(archive, members[0], name, limits)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError, EOFError) as error:
        raise FileRefused(
            "corrupt_file", f"{name}:{members[0].filename} cannot be opened ({error})", file=name
        ) from error


class Recoded:
    """Text of another encoding as UTF-8."""

    def __init__(self, stream: Stream, encoding: str, name: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._encoding = encoding
        self._name = name
        self._read = 0
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        """Return UTF-8 bytes (about `size`)."""
        while not self._ended:
            data = self._stream.read(CHUNK_BYTES if size < 0 else max(size, 64))
            self._ended = not data
            try:
                text = self._decoder.decode(data, final=self._ended)
            except UnicodeDecodeError as error:
                raise FileRefused(
                    "undecodable_file",
                    f"{self._name} is not {self._encoding} at byte {self._read + error.start}",
                    file=self._name,
                    value=repr(error.object[error.start : error.end]),
                    field="encoding",
                ) from error
            self._read += len(data)
            if text:
                encoded = text.encode("utf-8", "surrogatepass")
                return encoded + self.read() if size < 0 else encoded
        return b""


_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
BYTEWISE = {
    "",
    "utf-8",
    "utf8",
    "utf-8-sig",
    "ascii",
    "us-ascii",
    "cp1252",
    "windows-1252",
    "latin-1",
    "latin1",
    "iso-8859-1",
    "iso8859-1",
    "iso-8859-15",
    "cp1250",
    "cp1251",
    "windows-1250",
    "windows-1251",
}
"""Encodings whose delimiters and line ends are the ASCII bytes: cells are decoded one by one, never the file."""


def as_text(stream: Peeked, declared: str, name: str) -> tuple[Stream, str, str]:
    """Return (bytes whose delimiters are ASCII, encoding for cells, what was found)."""
    for bom, encoding in _BOMS:
        if stream.head.startswith(bom):
            if encoding == "utf-8":
                stream.read(len(bom))
                return (
                    stream,
                    "utf-8" if declared in ("utf-8", "utf8", "utf-8-sig") else "",
                    "utf-8 with byte order mark",
                )
            return Recoded(stream, encoding, name), "utf-8", f"{encoding} with byte order mark"
    declared = declared.lower()
    if declared not in BYTEWISE:
        try:
            codecs.lookup(declared)
        except LookupError as error:
            raise FileRefused(
                "undecodable_file",
                f"{name}: encoding {declared!r} is not known",
                file=name,
                field="encoding",
                value=declared,
            ) from error
        return Recoded(stream, declared, name), "utf-8", declared
    sample = stream.head[:4096]
    if len(sample) >= 4 and not declared:
        even, odd = sample[0::2].count(0), sample[1::2].count(0)
        half = len(sample) // 2
        if odd > 0.4 * half and even < 0.05 * half:
            return Recoded(stream, "utf-16-le", name), "utf-8", "utf-16-le without byte order mark"
        if even > 0.4 * half and odd < 0.05 * half:
            return Recoded(stream, "utf-16-be", name), "utf-8", "utf-16-be without byte order mark"
    found = "utf-8-sig" if declared == "utf-8-sig" else declared
    return stream, {"utf-8-sig": "utf-8", "utf8": "utf-8"}.get(found, found), found or guess(stream.head)


def guess(head: bytes) -> str:
    """Say what the first bytes look like: a statement for people, cells are decoded one by one."""
    if head.isascii():
        return "ascii"
    try:
        head[: head.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


Opener = Callable[[], Stream]
