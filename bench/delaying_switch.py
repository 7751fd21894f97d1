"""A switch in user space that hands every Ethernet frame on after a delay, for kernels without netem.

    python delaying_switch.py DELAY_MS PORT...

Each port is a network interface of this namespace whose peer is a host. Frames are read and written as the
kernel has them, offloaded checksums and segments included (PACKET_VNET_HDR), so one call moves up to 64 kB.
Needs Linux and root; ends with a signal. Bandwidth is not its concern: see ``tc tbf``.
"""

from __future__ import annotations

import heapq
import select
import socket
import sys
import time

SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_VNET_HDR = 263, 1, 15
PACKET_MR_PROMISC, PACKET_OUTGOING = 1, 4
ETH_P_ALL = 3
VNET_HEADER = 10  # bytes before the frame
LARGEST = 1 << 17


def open_port(name):
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    index = socket.if_nametoindex(name)
    membership = index.to_bytes(4, sys.byteorder) + PACKET_MR_PROMISC.to_bytes(2, sys.byteorder) + bytes(10)
    port.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
    port.bind((name, 0))
    port.setblocking(False)
    return port


def switch(delay_s, names):
    ports = [open_port(name) for name in names]
    poll = select.epoll()
    for port in ports:
        poll.register(port, select.EPOLLIN)
    by_descriptor = {port.fileno(): port for port in ports}
    port_of = {}  # hardware address -> port
    due = []  # (when, number, port that it came from, frame)
    number = 0
    while True:
        timeout_s = max(0.0, due[0][0] - time.monotonic()) if due else -1.0
        for descriptor, _ in poll.poll(timeout_s):
            port = by_descriptor[descriptor]
            while True:
                try:
                    frame, address = port.recvfrom(LARGEST)
                except (BlockingIOError, OSError):  # nothing left, or the port is down
                    break
                if address[2] != PACKET_OUTGOING:
                    number += 1
                    heapq.heappush(due, (time.monotonic() + delay_s, number, port, frame))
        while due and due[0][0] <= time.monotonic():
            _, _, port, frame = heapq.heappop(due)
            target, source = frame[VNET_HEADER : VNET_HEADER + 6], frame[VNET_HEADER + 6 : VNET_HEADER + 12]
            port_of[source] = port
            known = port_of.get(target)
            for other in ports if known is None else [known]:
                if other is not port:
                    try:
                        other.send(frame)
                    except OSError:  # down, or no room: the frame is lost, as on any wire
                        continue


if __name__ == "__main__":
    switch(1e-3 * float(sys.argv[1]), sys.argv[2:])
