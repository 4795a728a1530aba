"""The ledger on disk: an append-only file of commands, each with a checksum, from which a node rises again.

A file is a sequence of records: length and CRC-32 (both u32, little-endian), then that many bytes of msgpack. The first
record holds the chain's settings, all others a command. Each is written before its client is answered. A record that
a crash cut off at the end is removed; damage anywhere else is an error: what followed it would be built on nothing.
"""

import fcntl
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from railwatch_solana.dev.devnode.commands import AnyCommand
from railwatch_solana.dev.devnode.node import Node, Settings

NAME = "commands.log"
HEADER = struct.Struct("<II")


class LedgerError(RuntimeError):
    """The ledger cannot be used: damaged, in use by another node, or made by a node that executed differently."""


class Ledger:
    """A folder with one node's ledger, open for this process alone."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file: IO[bytes] | None = None
        self._decoder = msgspec.msgpack.Decoder(AnyCommand)
        self._encoder = msgspec.msgpack.Encoder()

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise LedgerError(f"{self._path} is in use by another node") from error
        self._file = file
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def rise(self, settings: Settings) -> Node:
        """Return the node as saved, or a new one with these settings if the ledger is empty. Raises `LedgerError`."""
        records = self._read()
        first = next(records, None)
        if first is None:
            self._append(msgspec.msgpack.encode(settings))
            return Node(settings, self.keep)
        node = Node(self._settings(first, settings.keep), self.keep)
        for number, record in enumerate(records, start=2):
            try:
                node.apply(self._decoder.decode(record))
            except (msgspec.MsgspecError, RuntimeError, ValueError) as error:
                raise LedgerError(f"{self._path}, record {number}: {error}") from error
        return node

    def keep(self, command: AnyCommand) -> None:
        """Write down a command that was carried out."""
        self._append(self._encoder.encode(command))

    def _settings(self, record: bytes, keep: int) -> Settings:
        try:
            return msgspec.structs.replace(msgspec.msgpack.decode(record, type=Settings), keep=keep)
        except msgspec.MsgspecError as error:
            raise LedgerError(f"{self._path} does not begin with a chain's settings: {error}") from error

    def _append(self, record: bytes) -> None:
        file = self._opened
        file.write(HEADER.pack(len(record), zlib.crc32(record)) + record)
        file.flush()

    def _read(self) -> Iterator[bytes]:
        """Each whole record; what is cut off at the end is removed from the file. Raises `LedgerError`."""
        file = self._opened
        size = file.seek(0, 2)
        at = file.seek(0)
        while at < size:
            header = file.read(HEADER.size)
            length, checksum = HEADER.unpack(header) if len(header) == HEADER.size else (size, 0)
            end = at + HEADER.size + length
            record = file.read(length) if end <= size else b""
            if end > size or (end == size and zlib.crc32(record) != checksum):
                file.truncate(at)
                return
            if zlib.crc32(record) != checksum:
                raise LedgerError(f"{self._path} is damaged at byte {at}")
            yield record
            at = end

    @property
    def _opened(self) -> IO[bytes]:
        if self._file is None:
            raise LedgerError(f"{self._path} is not open")
        return self._file
