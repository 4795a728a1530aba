"""The bitcoind or litecoind process of tests and demos: found, run on regtest and loopback, and ended by its pid.

Everything of it is in a folder of its own, which is also its HOME. It listens on loopback only, and to no peers.
"""

import base64
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from railwatch.rail.dev.node_process import free_ports

START_SECONDS = 60.0
"""It answers after 0.3 s; a machine that is busy with a whole test run may be slower."""
STOP_SECONDS = 30.0
"""Between asking a node to end and killing it."""
CALL_SECONDS = 60.0
LOOK_SECONDS = 0.02
TAIL_BYTES = 2_000

BITCOIND = "bitcoind"
LITECOIND = "litecoind"
ELSEWHERE = {LITECOIND: "/usr/lib/litecoin"}
"""Where Debian's packages keep a node that is not on PATH."""

COMMON = (
    "server=1",
    "listen=0",
    "connect=0",
    "dnsseed=0",
    "upnp=0",
    "rpcbind=127.0.0.1",
    "rpcallowip=127.0.0.1",
    "txindex=1",
    "mempoolexpiry=1",
    "fallbackfee=0.0002",
    "dbcache=16",
    "par=1",
    "maxsigcachesize=1",
)
SETTINGS: Mapping[str, tuple[str, ...]] = {
    # Knots refuses more than Core does by default; Core ignores the keys of a file that it does not know.
    BITCOIND: (
        *COMMON,
        "corepolicy=1",
        "addresstype=bech32",
        "changetype=bech32",
        "unsafesqlitesync=1",
        "blockfilterindex=1",
        "rest=1",
    ),
    # BIP125 replacement is off by default; MWEB stays off, since only a wallet of its own could fill its blocks.
    LITECOIND: (*COMMON, "mempoolreplacement=1", "vbparams=mweb:-2:0"),
}


class NodeError(RuntimeError):
    """The node could not be started, or refused a call: a mistake of the story, not of a rail."""


class NodeMissing(NodeError):
    """There is no such node on this machine."""


def find_node(program: str) -> Path:
    """Return the binary of ``bitcoind`` or ``litecoind``.

    On PATH, else where RAILWATCH_BITCOIND or RAILWATCH_LITECOIND points, else where ``make setup`` puts it below the
    cwd. Raises `NodeMissing`.
    """
    variable = f"RAILWATCH_{program.upper()}"
    path = os.pathsep.join(filter(None, (os.environ.get("PATH"), ELSEWHERE.get(program))))
    found = shutil.which(program, path=path) or os.environ.get(variable)
    binary = Path(found) if found else Path.cwd() / ".dev" / program / "bin" / program
    if not os.access(binary, os.X_OK):
        raise NodeMissing(
            f"no {program} on PATH and none at {binary}: run `make setup`, or let {variable} name the binary"
        )
    return binary


@dataclass(slots=True)
class DaemonNode:
    """One node in a process. `start` and `end` are plain calls, so that a node can outlive an event loop.

    ``password`` (with the user "railwatch") replaces the cookie. ``settings`` are further lines of its
    configuration. ``folder`` None: a temporary one, which `remove` deletes. Ports are chosen once, and stay over
    restarts.
    """

    program: str = BITCOIND
    password: str | None = None
    settings: Sequence[str] = ()
    folder: Path | None = None
    port: int = field(default_factory=lambda: free_ports(1)[0])
    zmq_port: int = field(default_factory=lambda: free_ports(1)[0])
    wallet: bool = False
    _process: subprocess.Popen[bytes] | None = None
    _own: tempfile.TemporaryDirectory[str] | None = None

    @property
    def url(self) -> str:
        """Where JSON-RPC and REST are served."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def zmq(self) -> str | None:
        """Where it publishes; litecoind of Debian accepts the options and publishes nothing."""
        return f"tcp://127.0.0.1:{self.zmq_port}" if self.program == BITCOIND else None

    @property
    def cookie(self) -> Path:
        """The file with user and password, new at every start."""
        return self._home / "regtest" / ".cookie"

    @property
    def table(self) -> dict[str, Any]:
        """The node's table, as a configuration would hold it."""
        way = {"cookie_path": str(self.cookie)}
        if self.password is not None:
            way = {"user": "railwatch", "password": self.password}
        more = {"zmq": self.zmq, "rest": True} if self.program == BITCOIND else {}
        return {"rpc": self.url, **way, **more}

    @property
    def pid(self) -> int:
        """The process, for tests that pause or kill it."""
        if self._process is None:
            raise NodeError(f"{self.program} is not running: start it first")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started, and neither ended nor killed."""
        return self._process is not None

    @property
    def command(self) -> tuple[str, ...]:
        """What runs it in the foreground. The folder has to be prepared (`prepare`). Raises `NodeMissing`."""
        return (str(find_node(self.program)), f"-datadir={self._home}", "-regtest", "-printtoconsole=0")

    @property
    def _home(self) -> Path:
        if self.folder is None:
            self._own = tempfile.TemporaryDirectory(prefix=f"railwatch-{self.program}-")
            self.folder = Path(self._own.name)
        return self.folder

    def prepare(self) -> None:
        """Write its configuration."""
        lines = [*SETTINGS[self.program], f"disablewallet={int(not self.wallet)}", f"rpcport={self.port}"]
        if self.zmq is not None:
            topics = ("rawtx", "hashblock", "sequence")
            lines += [f"zmqpub{topic}={self.zmq}" for topic in topics] + [f"zmqpub{topic}hwm=0" for topic in topics]
        if self.password is not None:
            lines += ["rpcuser=railwatch", f"rpcpassword={self.password}"]
        name = self.program.removesuffix("d") + ".conf"
        (self._home / name).write_text("\n".join(["[regtest]", *self.settings, *lines, ""]))

    def start(self) -> None:
        """Run it, and wait until it answers. Raises `NodeError` with its last words if it ends instead."""
        if self._process is not None:
            raise NodeError(f"{self.program} runs already")
        self.prepare()
        self.cookie.unlink(missing_ok=True)  # of a node that was killed
        with (self._home / "output.log").open("wb") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "HOME": str(self._home)},
            )
        try:
            self._wait_until_it_answers(time.monotonic() + START_SECONDS)
        except BaseException:
            self.kill()
            raise

    def _wait_until_it_answers(self, until: float) -> None:
        while not self.answers():
            assert self._process is not None
            if (code := self._process.poll()) is not None:
                raise NodeError(f"{self.program} ended with {code}: {self._last_words()}")
            if time.monotonic() > until:
                raise NodeError(f"{self.program} does not answer after {START_SECONDS:.0f} s: {self._last_words()}")
            time.sleep(LOOK_SECONDS)

    def answers(self) -> bool:
        """Whether it has left its warm-up."""
        request = b'{"method": "getblockcount", "params": [], "id": 0}'
        try:
            head = f"POST / HTTP/1.0\r\nAuthorization: {self.authorization()}\r\nContent-Length: {len(request)}\r\n\r\n"
            with socket.create_connection(("127.0.0.1", self.port), timeout=CALL_SECONDS) as connection:
                connection.sendall(head.encode() + request)
                return b" 200 " in connection.recv(64)
        except OSError:
            return False

    def authorization(self) -> str:
        """Return the header's value. Raises OSError while there is no cookie."""
        secret = self.cookie.read_text() if self.password is None else f"railwatch:{self.password}"
        return "Basic " + base64.b64encode(secret.encode()).decode()

    def _last_words(self) -> str:
        return (self._home / "output.log").read_text(errors="replace")[-TAIL_BYTES:].strip()

    def end(self) -> None:
        """Ask it to end, as systemd would, and kill it if it does not. It may have ended before."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.kill()

    def kill(self) -> None:
        """End it at once: it can save nothing."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def remove(self) -> None:
        """End it and remove its temporary folder."""
        self.kill()
        own, self._own = self._own, None
        if own is not None:
            self.folder = None
            own.cleanup()
