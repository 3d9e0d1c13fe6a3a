"""Says its port, then DSCP and ECN of each datagram that comes: IPv4's type of service, IPv6's traffic class.

tos_peer.py ADDRESS; ends with its stdin.
"""
import select
import socket
import sys

address = sys.argv[1]
is_v6 = ":" in address
sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((address, 0))
sock.setsockopt(
    *((socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1) if is_v6 else (socket.IPPROTO_IP, socket.IP_RECVTOS, 1))
)
print(sock.getsockname()[1], flush=True)
while True:
    ready, _, _ = select.select([sock, sys.stdin], [], [])
    if sys.stdin in ready:
        break
    _, control, _, _ = sock.recvmsg(2048, 128)
    print(int.from_bytes(control[0][2], "little"), flush=True)
