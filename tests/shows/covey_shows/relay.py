# SPDX-License-Identifier: GPL-3.0-or-later
"""A relay in a host's network namespace: what goes through it arrives late, in order.  A program of its own.

    relay.py PORT MARK DELAY     ends with its standard input, and prints how many bytes it carried

Connections come by a redirecting rule of the packet filter, which is asked where they meant to go; the relay's own ones
bear MARK, so that they are not redirected.  Each chunk waits DELAY to twice DELAY seconds.
"""

import asyncio
import random
import socket
import struct
import sys

SO_ORIGINAL_DST = 80


class Relay:
    def __init__(self, mark: int, delay: float) -> None:
        self.mark, self.delay, self.carried = mark, delay, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be the connection that was meant."""
        try:
            far_reader, far_writer = await self._dial(writer.get_extra_info("socket"))
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))

    async def _dial(self, near: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port, address = struct.unpack_from("!2xH4s", near.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16))
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.mark)
        far.setblocking(False)
        await asyncio.get_running_loop().sock_connect(far, (socket.inet_ntoa(address), port))
        return await asyncio.open_connection(sock=far)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        due = 0.0
        try:
            while data := await reader.read(65536):
                # A little later than the chunk before it: what is due at the same time is called in any order.
                due = max(due + 1e-5, loop.time() + self.delay * (1 + random.random()))
                loop.call_at(due, writer.write, data)
                self.carried += len(data)
        except ConnectionError:
            writer.transport.abort()
            return
        loop.call_at(max(due + 1e-5, loop.time()), writer.close)


async def main(port: int, mark: int, delay: float) -> None:
    relay = Relay(mark, delay)
    async with await asyncio.start_server(relay.serve, "0.0.0.0", port):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print(relay.carried, flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
