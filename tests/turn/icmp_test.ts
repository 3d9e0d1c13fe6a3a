// ICMP to the client and DONT-FRAGMENT: the server by itself, then with its client in the virtual internet, then on loopback.
import { assert, assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import type { SocketId } from "../../stun/machine.ts";
import { type MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { linuxHost, pickHost } from "../../stun/net/linux_host.ts";
import { type LinkOptions, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { ADDITIONAL_ADDRESS_FAMILY, DATA, DONT_FRAGMENT, ICMP, XOR_PEER_ADDRESS } from "../../turn/attributes.ts";
import { allocate, serveTurn } from "../../turn/mod.ts";
import type { RecordedSend } from "../_recorder.ts";
import {
  addTransport,
  bytes,
  CLIENT,
  codeOf,
  PEER,
  PEER6,
  type RigClient,
  SERVER,
  SERVER6,
  ServerRig,
} from "./_server_rig.ts";

const UNREACHABLE = { type: 3, code: 3, mtu: 0 } as const;
const unfragmented = (writer: MessageWriter) => writer.add(DONT_FRAGMENT, true);

/** A dual allocation with permissions for both peers. */
function relaying(rig = new ServerRig()): { rig: ServerRig; client: RigClient; v4: SocketId; v6: SocketId } {
  const client = rig.client();
  const [v4, v6] = client.mustAllocate((writer) => writer.add(ADDITIONAL_ADDRESS_FAMILY, 6));
  assertEquals(client.permit(PEER, PEER6), 0);
  return { rig, client, v4: v4!.socket, v6: v6!.socket };
}

/** Lets an ICMP message arrive. Gives what the server sent. */
function icmp(
  rig: ServerRig,
  socket: SocketId,
  to: TransportAddress,
  message: Partial<typeof UNREACHABLE> | { type: number; code?: number; mtu?: number } = {},
): RecordedSend[] {
  rig.server.handleIcmp(socket, { to, ...UNREACHABLE, ...message }, rig.io);
  return rig.io.takeSends();
}

Deno.test("RFC 8656 §11.5, T29: an ICMP message is a Data indication with XOR-PEER-ADDRESS and ICMP, without DATA", () => {
  const { rig, client, v4, v6 } = relaying();
  const cases = [
    [v4, PEER, { type: 3, code: 3, mtu: 0 }, 0],
    [v4, PEER, { type: 3, code: 4, mtu: 1400 }, 1400],
    [v4, PEER, { type: 11, code: 0, mtu: 7 }, 0],
    [v6, PEER6, { type: 1, code: 4, mtu: 0 }, 0],
    [v6, PEER6, { type: 2, code: 0, mtu: 1280 }, 1280],
    [v6, PEER6, { type: 3, code: 0, mtu: 0 }, 0],
  ] as const;
  for (const [socket, peer, { type, code, mtu }, data] of cases) {
    const sends = icmp(rig, socket, peer, { type, code, mtu });
    assertEquals(sends.map(({ socket, to }) => [socket, String(to)]), [[client.socket, String(CLIENT)]]);
    const message = StunMessage.parse(sends[0]!.bytes)!;
    assertEquals([message.method, message.class], [METHOD.DATA, "indication"]);
    assertEquals(message.get(XOR_PEER_ADDRESS), peer);
    assertEquals(message.get(ICMP), { type, code, data });
    assert(!message.has(DATA));
  }
  assertEquals([rig.server.counters.icmpToClients, rig.server.counters.packetsToClients], [6, 0]);
});

Deno.test("RFC 8656 §11.5, T29: other ICMP types are dropped", () => {
  const { rig, v4, v6 } = relaying();
  for (const type of [0, 1, 2, 4, 5, 8, 12]) assertEquals(icmp(rig, v4, PEER, { type }), []);
  for (const type of [0, 4, 11, 128]) assertEquals(icmp(rig, v6, PEER6, { type }), []);
  assertEquals(rig.drops, { icmpType: 11 });
});

Deno.test("RFC 8656 §11.5, T29: the inner destination needs a permission, by its IP address and whatever its port", () => {
  const { rig, v4 } = relaying();
  const stranger = TransportAddress.parse("8.8.4.4:7000");
  assertEquals(icmp(rig, v4, stranger), []);
  assertEquals(rig.drops, { noPermission: 1 });
  assertEquals(icmp(rig, v4, PEER.withPort(0)).length, 1, "a system may not tell the port");
  rig.advance(300_000);
  assertEquals(icmp(rig, v4, PEER), []);
  assertEquals(rig.drops, { noPermission: 2 });
});

Deno.test("T29: a client hears of twenty ICMP messages at once and of ten a second", () => {
  const { rig, v4 } = relaying();
  let told = 0;
  for (let i = 0; i < 1000; i++) told += icmp(rig, v4, PEER).length;
  assertEquals([told, rig.drops], [20, { icmpRate: 980 }]);
  for (let ms = 0; ms < 5000; ms++) {
    rig.advance(1);
    told += icmp(rig, v4, PEER).length;
  }
  assertEquals(told, 20 + 50);
});

Deno.test("T29: no ICMP message without an allocation, and a relay of the same server is told by its outer address", () => {
  const outer = "198.18.0.9";
  const rig = new ServerRig({ relayAddresses: [{ address: SERVER.address, external: outer }] });
  const [client, other] = [rig.client(), rig.client(CLIENT.withPort(1))];
  const [relay] = client.mustAllocate();
  const [peer] = other.mustAllocate();
  assertEquals([client.permit(peer!.relayed), peer!.relayed.address], [0, outer]);
  const inner = TransportAddress.of(SERVER.address, peer!.relayed.port);
  const message = StunMessage.parse(icmp(rig, relay!.socket, inner)[0]!.bytes)!;
  assertEquals(message.get(XOR_PEER_ADDRESS), peer!.relayed);
  client.refresh(0);
  assertEquals([icmp(rig, relay!.socket, inner), icmp(rig, 4711, PEER)], [[], []]);
});

Deno.test("RFC 8656 §7.2, T11: DONT-FRAGMENT is accepted where DF can be set", () => {
  const client = new ServerRig({ dontFragment: true }).client();
  assertEquals(codeOf(client.allocate((writer) => writer.add(DONT_FRAGMENT, true))), 0);
  assertEquals(codeOf(client.refresh(600, (writer) => writer.add(DONT_FRAGMENT, true))), 0);
});

Deno.test("RFC 8656 §14, T11, T30: DF is set for Send indications with DONT-FRAGMENT and for nothing else", () => {
  const rig = new ServerRig({ dontFragment: true });
  const { client, v4 } = relaying(rig);
  assertEquals(client.bind(0x4000, PEER), 0);
  const { fragmentation } = rig.io;
  const send = (attributes?: (writer: MessageWriter) => unknown) =>
    assertEquals(client.sendTo(PEER, bytes(1), attributes).length, 1);
  send();
  assertEquals(fragmentation, [], "said when the socket was opened");
  for (let i = 0; i < 3; i++) send(unfragmented);
  assertEquals(fragmentation.splice(0), [[v4, true]]);
  for (let i = 0; i < 3; i++) send();
  assertEquals(fragmentation.splice(0), [[v4, false]]);
  send(unfragmented);
  assertEquals(client.sendOn(0x4000, bytes(1)).length, 1);
  assertEquals(fragmentation.splice(0), [[v4, true], [v4, false]]);
});

Deno.test("RFC 8656 §13, T30: DONT-FRAGMENT is ignored from IPv4 to IPv6 and the reverse", () => {
  const rig = new ServerRig({ dontFragment: true });
  const { client } = relaying(rig);
  assertEquals(client.sendTo(PEER6, bytes(1), unfragmented).length, 1);
  assertEquals(rig.io.fragmentation, []);
});

/** A client behind a NAT, a server, and a host with a peer, whose link can be made narrow. */
async function inVirtualTime(
  link: LinkOptions,
  test: (place: { relay: Awaited<ReturnType<typeof allocate>>; told: string[]; world: VirtualWorld }) => Promise<void>,
  transport: "udp" | "tcp" = "udp",
): Promise<void> {
  const world = new VirtualWorld({ link: { delay: 5 } });
  const host = world.addHost("server", { addresses: ["198.51.100.1", "2001:db8::1"] });
  const client = world.addHost("client", { addresses: ["203.0.113.1"] });
  world.addHost("peer", { addresses: [PEER.address, PEER6.address], link: { delay: 5, ...link } });
  await world.run(async () => {
    const listen = ["198.51.100.1:3478"];
    const relayAddresses = ["198.51.100.1", "2001:db8::1"];
    await using _server = serveTurn({ host, listen, relayAddresses, realm: "example.org", users: { alice: "secret" } });
    const told: string[] = [];
    await using relay = await allocate({
      host: client,
      server: TransportAddress.parse("198.51.100.1:3478"),
      transport,
      username: "alice",
      password: "secret",
      family: "dual",
      dontFragment: true,
      onIcmp: (peer, { type, code, data }) => told.push(`${peer} ${type} ${code} ${data}`),
    });
    assert(relay.canSendUnfragmented);
    await test({ relay, told, world });
  });
}

Deno.test("RFC 8656 §11.6, T29: a client hears that nobody is at its peer's port, over IPv4 and IPv6", async () => {
  await inVirtualTime({}, async ({ relay, told, world }) => {
    relay.send(PEER, bytes(1));
    relay.send(PEER6, bytes(1));
    await world.sleep(100);
    assertEquals(told, [`${PEER} 3 3 0`, `${PEER6} 1 4 0`]);
  });
});

Deno.test("RFC 8656 §14, §15, T29, T30: with DONT-FRAGMENT a client hears how narrow the way to its peer is, without it not", async () => {
  for (const transport of ["udp", "tcp"] as const) {
    await inVirtualTime({ mtu: 1300 }, async ({ relay, told, world }) => {
      relay.send(PEER, new Uint8Array(1300));
      await world.sleep(100);
      assertEquals(told, []);
      relay.send(PEER, new Uint8Array(1300), { dontFragment: true });
      relay.send(PEER6, new Uint8Array(1300));
      await world.sleep(100);
      assertEquals(told, [`${PEER} 3 4 1300`, `${PEER6} 2 0 1300`]);
    }, transport);
  }
});

Deno.test({
  name: "RFC 8656 §11.5, T29: on loopback the kernel's ICMP messages reach the client, IPv4 and IPv6, UDP and TCP",
  ignore: pickHost("auto").io !== "linux",
  async fn() {
    for (const [address, type, code] of [["127.0.0.1", 3, 3], ["[::1]", 1, 4]] as const) {
      for (const transport of ["udp", "tcp"] as const) {
        await using server = serveTurn({
          host: linuxHost(),
          listen: [`${address}:0`],
          realm: "example.org",
          users: { alice: "secret" },
          allowPeers: ["127.0.0.0/8", "::1/128"],
        });
        const { promise, resolve } = Promise.withResolvers<string>();
        await using relay = await allocate({
          server: server.addresses[0]!,
          transport,
          username: "alice",
          password: "secret",
          family: type === 3 ? 4 : 6,
          dontFragment: true,
          onIcmp: (peer, icmp) => resolve(`${peer} ${icmp.type} ${icmp.code}`),
        });
        // Bound and closed: nobody is there.
        const gone = linuxHost().openDatagram(
          { transport: "udp", address: address.replace(/[[\]]/g, ""), port: 0 },
          () => {},
        );
        gone.close();
        await gone.closed;
        relay.send(gone.localAddress, bytes(1), { dontFragment: true });
        assertEquals(await promise, `${gone.localAddress} ${type} ${code}`);
        assertEquals(server.stats().icmpToClients, 1);
      }
    }
  },
});

Deno.test("RFC 8656 §14, T29, T30: relay sockets are opened to hear of ICMP, and to send without DF", () => {
  const rig = new ServerRig();
  rig.opensAtOnce = false;
  const client = rig.client();
  client.challenge();
  client.send(client.build(METHOD.ALLOCATE, (w) => addTransport(w).add(ADDITIONAL_ADDRESS_FAMILY, 6)));
  const wishes = rig.io.takeOpens().map(({ wish }) => {
    assert(wish.transport === "udp");
    return [wish.address, wish.icmp, wish.dontFragment];
  });
  assertEquals(wishes, [[SERVER.address, true, false], [SERVER6.address, true, false]]);
});

Deno.test("RFC 8656 §7.2, T11: with Deno's own UDP, DONT-FRAGMENT gets 420, and our client goes on without", async () => {
  await using server = serveTurn({ listen: ["127.0.0.1:0"], realm: "example.org", users: { alice: "secret" } });
  const options = { server: server.addresses[0]!, username: "alice", password: "secret", dontFragment: true };
  await using relay = await allocate(options);
  assertEquals([relay.canSendUnfragmented, server.stats().errors["420"]], [false, 1]);
});
