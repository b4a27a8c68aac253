#!/usr/bin/env python3
"""Quiz 1 of the talk "Socket migration for SO_REUSEPORT" (2021), written anew: is a connection in the accept queue of a
listener that closes accepted by another listener on the port?

    unshare -n sh -c 'ip link set lo up && python3 bench/quiz1.py'
"""

import fcntl
import os
import struct
import sys
from socket import AF_INET, SO_REUSEPORT, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, if_nameindex, socket

ADDRESS = ("127.0.0.1", 80)

# linux/sockios.h and linux/if.h
SIOCGIFFLAGS = 0x8913
IFF_UP = 1


def server():
    s = socket(AF_INET, SOCK_STREAM)
    s.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
    s.bind(ADDRESS)
    s.listen(32)
    return s


def client():
    c = socket(AF_INET, SOCK_STREAM)
    c.connect(ADDRESS)
    return c


def ask(listener):
    """Prints what the listener has: either is an answer."""
    listener.setblocking(False)
    try:
        child, _ = listener.accept()
        print(child.recv(1024))
    except BlockingIOError as e:
        print("BlockingIOError:", e)


def is_up(device):
    with socket(AF_INET, SOCK_DGRAM) as s:
        request = struct.pack("16sH22x", device.encode(), 0)  # struct ifreq, netdevice(7)
        _, flags = struct.unpack("16sH22x", fcntl.ioctl(s, SIOCGIFFLAGS, request))
    return bool(flags & IFF_UP)


def need_own_namespace():
    """Keeps off the host's network: refuses the namespace of process 1, and any in which more than lo is up."""
    try:
        shared = os.readlink("/proc/self/ns/net") == os.readlink("/proc/1/ns/net")
    except OSError:
        shared = False  # not to be known, even for some roots: what is up decides
    if shared or any(is_up(name) for _, name in if_nameindex() if name != "lo"):
        sys.exit("this is not a network namespace of my own: unshare -n sh -c 'ip link set lo up && python3 %s'" % sys.argv[0])


def quiz1():
    server_1 = server()
    c = client()
    c.send(b"Hello World")
    server_2 = server()
    server_1.close()
    ask(server_2)


if __name__ == "__main__":
    need_own_namespace()
    quiz1()
