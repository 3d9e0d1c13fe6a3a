#!/usr/bin/python3
"""An ICE agent on aioice (Debian: python3-aioice) that speaks JSON lines; see README.md."""
import argparse
import asyncio
import json
import ssl
import sys
import time

import aioice
import aioice.ice


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", default="controlling")
    parser.add_argument("--bind", default="")
    parser.add_argument("--stun")
    parser.add_argument("--turn")
    parser.add_argument("--turn-transport", default="udp")
    parser.add_argument("--user", default="test")
    parser.add_argument("--pass", dest="password", default="secret")
    parser.add_argument("--policy", default="all")
    return parser.parse_args()


def host_and_port(text):
    if not text:
        return None
    host, port = text.rsplit(":", 1)
    return host, int(port)


def emit(**message):
    print(json.dumps(message), flush=True)


def connection(options):
    if options.bind:
        # aioice leaves loopback out: it is given the addresses instead.
        aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: options.bind.split(",")
    tls = False
    if options.turn_transport == "tls":
        tls = ssl.create_default_context()
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    policy = aioice.ice.TransportPolicy
    return aioice.Connection(
        ice_controlling=options.role == "controlling",
        stun_server=host_and_port(options.stun),
        turn_server=host_and_port(options.turn),
        turn_username=options.user if options.turn else None,
        turn_password=options.password if options.turn else None,
        turn_ssl=tls,
        turn_transport="udp" if options.turn_transport == "udp" else "tcp",
        transport_policy=policy.RELAY if options.policy == "relay" else policy.ALL,
    )


async def run(agent):
    start = time.perf_counter()
    try:
        await agent.connect()
    except Exception as error:  # noqa: BLE001: whatever it is, the other side wants to know
        emit(t="failed", e=repr(error))
        return
    pair = agent._nominated[1]
    milliseconds = round((time.perf_counter() - start) * 1000, 1)
    emit(t="connected", local=pair.local_candidate.to_sdp(), remote=pair.remote_candidate.to_sdp(), ms=milliseconds)
    while True:
        emit(t="recv", d=(await agent.recv()).decode("utf8", "replace"))


async def main():
    agent = connection(arguments())
    emit(t="params", ufrag=agent.local_username, pwd=agent.local_password)
    await agent.gather_candidates()
    for candidate in agent.local_candidates:
        emit(t="cand", c="candidate:" + candidate.to_sdp())
    emit(t="eoc")
    reader = asyncio.StreamReader()
    loop = asyncio.get_event_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    task = None
    while True:
        line = await reader.readline()
        message = json.loads(line) if line.strip() else {"t": "close"}
        kind = message["t"]
        if kind == "params":
            agent.remote_username, agent.remote_password = message["ufrag"], message["pwd"]
        elif kind == "cand":
            await agent.add_remote_candidate(aioice.Candidate.from_sdp(message["c"].split(":", 1)[1]))
        elif kind == "eoc":
            await agent.add_remote_candidate(None)
            task = asyncio.ensure_future(run(agent))
        elif kind == "send":
            await agent.send(message["d"].encode())
        elif kind == "close":
            if task:
                task.cancel()
            await agent.close()
            return


asyncio.run(main())
