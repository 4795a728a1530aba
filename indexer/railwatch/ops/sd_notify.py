"""Talking to systemd: a datagram of ``KEY=VALUE`` lines to the socket that $NOTIFY_SOCKET names, if it names one."""

import os
import socket
from contextlib import suppress


def notify(**fields: object) -> bool:
    """Send such as ``notify(READY=1, STATUS="following 3 rails")``; True if there was somebody to tell.

    Nothing is raised: a manager that is gone or busy must not take the daemon along.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    # A leading @ stands for the NUL byte of Linux' abstract namespace.
    address = "\0" + path[1:] if path.startswith("@") else path
    # One field is one line; a line break within a value would begin a field of its own.
    text = "\n".join(f"{key}={' '.join(str(value).splitlines())}" for key, value in fields.items())
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)
        channel.sendto(text.encode(), address)
        return True
    return False
