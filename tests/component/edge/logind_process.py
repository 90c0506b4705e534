"""Stands in for systemd-logind on a real bus: hands out delay locks, and says when the last one has gone.

Argument: the bus's socket. A line ``true`` or ``false`` on standard input sends PrepareForShutdown.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Any

from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_return, new_signal
from jeepney.bus_messages import message_bus

from skerry.base.dbus import DBus

NAME, PATH, MANAGER = "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Logind(DBus):
    """A bus connection that answers calls."""

    def _take(self, message: Any) -> None:
        if message.header.message_type is not MessageType.method_call:
            super()._take(message)
            return
        member = message.header.fields[HeaderFields.member]
        if member == "Inhibit" and message.body[0] == "shutdown" and message.body[3] == "delay":
            kept, given = os.pipe()
            self.reply(new_method_return(message, "h", (given,)))
            os.close(given)
            asyncio.get_running_loop().add_reader(kept, self.gone, kept)
            say("held")
        elif member == "Get":
            self.reply(new_method_return(message, "v", (("t", 25_000_000),)))
        else:
            self.reply(new_error(message, "org.freedesktop.DBus.Error.UnknownMethod"))

    def reply(self, message: Any) -> None:
        self._serial += 1
        fds = array.array("i")
        data = message.serialise(serial=self._serial, fds=fds)
        socket.send_fds(self._socket, [data], list(fds))

    def gone(self, kept: int) -> None:
        asyncio.get_running_loop().remove_reader(kept)
        os.close(kept)
        say("released")

    def tell(self, begins: bool) -> None:
        self._serial += 1
        signal = new_signal(DBusAddress(PATH, interface=MANAGER), "PrepareForShutdown", "b", (begins,))
        self._socket.send(signal.serialise(serial=self._serial))


async def main(path: Path) -> None:
    bus = await Logind.connect(path)
    await bus._send(message_bus.RequestName(NAME))
    say("ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        bus.tell(line.strip() == "true")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
