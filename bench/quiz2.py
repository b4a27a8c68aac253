#!/usr/bin/env python3
"""Quiz 2 of the talk, written anew: the same as quiz1.py, for a connection whose handshake is not done, since a rule drops
the client's ACK until the listener has closed.

    unshare -n sh -c 'ip link set lo up && python3 bench/quiz2.py'
"""

import subprocess
import time

from quiz1 import ask, client, need_own_namespace, server


def drop_ack(on):
    rule = "INPUT -d 127.0.0.1 -p tcp --dport 80 --tcp-flags SYN,ACK ACK -j DROP"
    subprocess.run(["iptables", "-A" if on else "-D", *rule.split()], check=True)


def quiz2():
    server_1 = server()
    drop_ack(True)
    c = client()
    c.send(b"Hello World")
    server_2 = server()
    server_1.close()
    drop_ack(False)
    time.sleep(1)  # until the client has retransmitted
    ask(server_2)


if __name__ == "__main__":
    need_own_namespace()
    quiz2()
