"""Notifications to systemd: a datagram of ``KEY=VALUE`` lines to the socket in $NOTIFY_SOCKET."""

import os
import socket
from contextlib import suppress


def notify(**fields: object) -> bool:
    """Send fields, such as ``notify(READY=1, STATUS="following 3 rails")``; return True if systemd received them.

    Raises nothing: an unavailable or busy service manager must not stop the daemon.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    # A leading @ means the NUL byte of Linux' abstract namespace.
    address = "\0" + path[1:] if path.startswith("@") else path
    # One field is one line; a line break within a value would start a new field.
    text = "\n".join(f"{key}={' '.join(str(value).splitlines())}" for key, value in fields.items())
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)
        channel.sendto(text.encode(), address)
        return True
    return False
