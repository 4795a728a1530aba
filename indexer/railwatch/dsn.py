"""What may be shown of a DSN: built from its parts, never by removing secrets from its text."""

import os
import re
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from configparser import Error as BadServiceFile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

HOST = re.compile(r"[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.%A-Za-z]{2,64}\]|[/@][^\s?&=:'\"]{1,255}")
"""A name, an address, or the folder of a socket. What is none of these may be half of a password."""
NAME = re.compile(r"[\w.$ -]{1,63}")
PAIR = re.compile(r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s\\]|\\.)*)\s*")
SECRET_KEY = re.compile(r"pass(word|wd)?$|secret|token|key$", re.IGNORECASE)
FILE_MOST = 65_536
"""Bytes of a password file or service file that are read."""


@dataclass(frozen=True, slots=True)
class Dsn:
    """A DSN's parts. ``hosts`` as ``name:port``, in its order; ``is_clear``: it was understood as a whole."""

    hosts: tuple[str, ...] = ()
    database: str = ""
    secrets: tuple[str, ...] = ()
    service: str | None = None
    passfile: str | None = None
    is_clear: bool = True

    @property
    def place(self) -> str:
        """Return the server and database that it points to, without secrets."""
        if not self.is_clear:
            return "an address that cannot be read"
        folders = [each for each in self.hosts if each.startswith(("/", "@"))]
        names = ",".join(each for each in self.hosts if not each.startswith(("/", "@")))
        return f"postgresql://{names}/{self.database}" + (f"?host={','.join(folders)}" if folders else "")


def read_dsn(text: str) -> Dsn:
    """Take a DSN apart: a URI or libpq's ``key=value``. Raises nothing: what is not clear shows nothing."""
    try:
        return _of_uri(text) if "://" in text else _of_pairs(text)
    except ValueError:
        return Dsn(secrets=tuple(_guessed(text)), is_clear=False)


def _of_uri(text: str) -> Dsn:
    parts = urlsplit(text)
    query = dict(parse_qsl(parts.query, strict_parsing=True, keep_blank_values=True)) if parts.query else {}
    # A password with an unescaped "/" or "#" cuts the text in the wrong place: its rest would pass for a name.
    if parts.scheme not in ("postgresql", "postgres") or parts.fragment or "@" in parts.path:
        raise ValueError("is no DSN")
    userinfo, _, places = parts.netloc.rpartition("@")
    password = userinfo.partition(":")[2]
    # A password that holds an "@" is cut at the first one by some, at the last one by others.
    pieces = [password, unquote(password), password.partition("@")[0]]
    hosts = places or query.get("host", "")
    names = _hosts(unquote(hosts) if places else hosts, query.get("port", ""))
    database = unquote(parts.path.removeprefix("/")) or query.get("dbname") or query.get("database", "")
    return _checked(names, database, [*pieces, *_secrets_of(query)], query)


def _of_pairs(text: str) -> Dsn:
    if PAIR.sub("", text).strip():
        raise ValueError("is no DSN")
    table = {key: _unquoted(value) for key, value in PAIR.findall(text)}
    if not table:
        raise ValueError("is no DSN")
    names = _hosts(table.get("host", "") or table.get("hostaddr", ""), table.get("port", ""))
    return _checked(names, table.get("dbname", ""), [*_secrets_of(table)], table)


def _checked(hosts: tuple[str, ...], database: str, secrets: list[str], table: Mapping[str, str]) -> Dsn:
    if database and not NAME.fullmatch(database):
        raise ValueError("is no DSN")
    found = tuple(sorted({each for each in secrets if each}))
    return Dsn(hosts, database, found, table.get("service"), table.get("passfile"))


def _hosts(text: str, ports: str) -> tuple[str, ...]:
    """``name:port`` of each; raises ValueError for what is no host or no port."""
    beside = [each for each in ports.split(",") if each]
    found = []
    for number, each in enumerate(each for each in text.split(",") if each):
        bare, colon, own = each.rpartition(":")
        if not colon or each.endswith("]") or each.startswith(("/", "@")):
            bare, own = each, ""
        port = own or (beside[min(number, len(beside) - 1)] if beside else "")
        if not HOST.fullmatch(bare) or (port and not (port.isascii() and port.isdecimal() and len(port) < 6)):
            raise ValueError("is no DSN")
        found.append(bare if bare.startswith(("/", "@")) or not port else f"{bare}:{port}")
    return tuple(found)


def _unquoted(value: str) -> str:
    inner = value[1:-1] if len(value) > 1 and value.startswith("'") and value.endswith("'") else value
    return re.sub(r"\\(.)", r"\1", inner)


def _secrets_of(table: Mapping[str, str]) -> Iterator[str]:
    for key, value in table.items():
        if SECRET_KEY.search(key):
            yield value


def _guessed(text: str) -> Iterator[str]:
    """Return what could be a password in a text that is no DSN: all from the first colon of the user to each "@"."""
    yield text
    rest = text.partition("://")[2] or text
    password = rest.partition(":")[2]
    for number, character in enumerate(password):
        if character == "@":
            yield password[:number]
    yield from (_unquoted(value) for key, value in PAIR.findall(text) if SECRET_KEY.search(key))


def dsn_secrets(text: str, environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Return every password that a connection by ``text`` may use: of it, of the environment, of libpq's files."""
    dsn = read_dsn(text)
    found = {*dsn.secrets, environment.get("PGPASSWORD", "")}
    if dsn.secrets:
        found.add(text)
    home = environment.get("HOME") or str(Path.home())
    found.update(_of_passfile(dsn.passfile or environment.get("PGPASSFILE") or f"{home}/.pgpass"))
    service = dsn.service or environment.get("PGSERVICE")
    if service:
        found.update(_of_service(environment.get("PGSERVICEFILE") or f"{home}/.pg_service.conf", service))
    return frozenset(each for each in found if each)


def _of_passfile(path: str) -> Iterator[str]:
    """Return the fifth field of each line of ``host:port:database:user:password``."""
    for line in _read(path).splitlines():
        fields = re.split(r"(?<!\\):", line, maxsplit=4)
        if len(fields) == 5 and not line.startswith("#"):
            yield re.sub(r"\\(.)", r"\1", fields[4])


def _of_service(path: str, service: str) -> Iterator[str]:
    parser = ConfigParser(interpolation=None, strict=False)
    with suppress(BadServiceFile):
        parser.read_string(_read(path))
    if parser.has_section(service):
        yield from _secrets_of(dict(parser[service]))


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(FILE_MOST).decode(errors="replace")
    except OSError:
        return ""
