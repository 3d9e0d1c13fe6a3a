// What a client may ask for in an Allocate request.
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { UNKNOWN_ATTRIBUTES, XOR_MAPPED_ADDRESS } from "../../stun/attributes.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { allocate } from "../../turn/allocate.ts";
import {
  ADDITIONAL_ADDRESS_FAMILY,
  ADDRESS_ERROR_CODE,
  DATA,
  DONT_FRAGMENT,
  EVEN_PORT,
  LIFETIME,
  REQUESTED_ADDRESS_FAMILY,
  RESERVATION_TOKEN,
  XOR_PEER_ADDRESS,
  XOR_RELAYED_ADDRESS,
} from "../../turn/attributes.ts";
import { TurnClient, type TurnClientOptions } from "../../turn/client.ts";
import { TurnError } from "../../turn/error.ts";
import { serveTurn, type ServeTurnOptions } from "../../turn/serve.ts";
import { type Answer, ClientRig, error, MAPPED, PEER, RELAYED, SERVER } from "./_client_rig.ts";

const RELAYED_6 = TransportAddress.parse("[2001:db8::1]:55000");
const PEER_6 = TransportAddress.parse("[2001:db8::50]:7000");

/** A success with these relayed addresses, and what else a test adds. */
function granted(relayed: readonly TransportAddress[], add: (writer: MessageWriter) => unknown = () => {}): Answer {
  return (request, server) => {
    const writer = new MessageWriter(new Uint8Array(512)).beginResponse(request, "success");
    for (const address of relayed) writer.add(XOR_RELAYED_ADDRESS, address);
    writer.add(XOR_MAPPED_ADDRESS, MAPPED).add(LIFETIME, 600);
    add(writer);
    return writer.addIntegrity(server.key).finish();
  };
}

/** 420 that names these. */
function unknown(...types: { readonly type: number }[]): Answer {
  return error(420, (writer) => writer.add(UNKNOWN_ATTRIBUTES, types.map(({ type }) => type)));
}

/** A client whose Allocate requests, after the challenge, are answered so. */
function rigFor(options: Partial<TurnClientOptions>, ...answers: Answer[]): ClientRig {
  const rig = new ClientRig(options);
  rig.server.script(METHOD.ALLOCATE, (request, server) => server.challenge(request, 401), ...answers);
  rig.call((client, io) => client.allocate(io));
  rig.advance(200);
  return rig;
}

function requests(rig: ClientRig, method: number): StunMessage[] {
  return rig.sent.map(({ bytes }) => StunMessage.parse(bytes)!).filter((message) => message?.method === method);
}

Deno.test("RFC 8656 §7.1: a dual allocation asks for IPv6 in addition, and not for a family", () => {
  const rig = rigFor({ requestedFamily: "dual" }, granted([RELAYED, RELAYED_6]));
  const request = requests(rig, METHOD.ALLOCATE).at(-1)!;
  assertEquals([request.get(ADDITIONAL_ADDRESS_FAMILY), request.has(REQUESTED_ADDRESS_FAMILY)], [6, false]);
  const [event] = rig.eventsOf("allocated");
  assertEquals([event!.relayed, event!.relayedAddresses], [RELAYED, [RELAYED, RELAYED_6]]);
  assertEquals(rig.client.addressError, undefined);
});

Deno.test("RFC 8656 §7.3: of the two addresses, IPv4 comes first whatever their order; more than two are no use", () => {
  const more = TransportAddress.parse("198.51.100.1:60000");
  const rig = rigFor({ requestedFamily: "dual" }, granted([RELAYED_6, RELAYED, more]));
  assertEquals(rig.client.relayedAddresses, [RELAYED, RELAYED_6]);
});

Deno.test("RFC 8656 §11.1: a dual allocation sends to peers of both families; a single one does not", () => {
  const rig = rigFor({ requestedFamily: "dual" }, granted([RELAYED, RELAYED_6]));
  for (const peer of [PEER, PEER_6]) rig.send(peer, "hello");
  rig.advance(100);
  assertEquals(
    requests(rig, METHOD.SEND).map((message) => String(message.get(XOR_PEER_ADDRESS))),
    [PEER, PEER_6].map(String),
  );
  assertEquals(rig.client.stats.droppedFamily, 0);

  const single = rigFor({ requestedFamily: "dual" }, granted([RELAYED]));
  single.send(PEER_6, "hello");
  assertEquals(single.client.stats.droppedFamily, 1);
  single.client.createPermission(PEER_6, single.io);
  assertEquals(single.eventsOf("permission-failed").map(({ code }) => code), [443]);
});

Deno.test("RFC 8656 §7.3: one of two families may be missing, and ADDRESS-ERROR-CODE says why", () => {
  const reason = "Address Family not Supported";
  const rig = rigFor(
    { requestedFamily: "dual" },
    granted([RELAYED], (writer) => writer.add(ADDRESS_ERROR_CODE, { family: 6, code: 440, reason })),
  );
  assertEquals([rig.client.state, rig.client.relayedAddresses], ["allocated", [RELAYED]]);
  assertEquals(rig.client.addressError, { family: 6, code: 440, reason });
});

Deno.test("T-Client c: a server that answers 420 to ADDITIONAL-ADDRESS-FAMILY is asked without", () => {
  const rig = rigFor({ requestedFamily: "dual" }, unknown(ADDITIONAL_ADDRESS_FAMILY), granted([RELAYED]));
  assertEquals([rig.client.state, rig.client.relayedAddresses], ["allocated", [RELAYED]]);
  assertEquals(requests(rig, METHOD.ALLOCATE).map((message) => message.has(ADDITIONAL_ADDRESS_FAMILY)), [
    true,
    true,
    false,
  ]);
});

Deno.test("T-Client c, RFC 8656 §7.4: a server that answers 420 to DONT-FRAGMENT is asked without, once", () => {
  const rig = rigFor({ dontFragment: true }, unknown(DONT_FRAGMENT), granted([RELAYED]));
  assertEquals([rig.client.state, rig.client.canSendUnfragmented], ["allocated", false]);
  assertEquals(requests(rig, METHOD.ALLOCATE).map((message) => message.has(DONT_FRAGMENT)), [true, true, false]);
  assertThrows(() => rig.client.sendUnfragmented(PEER, new Uint8Array(1), rig.io), Error, "does not know it");

  const stubborn = rigFor({ dontFragment: true }, unknown(DONT_FRAGMENT), unknown(DONT_FRAGMENT));
  assertEquals([stubborn.client.state, stubborn.eventsOf("failed").length], ["failed", 1]);
});

Deno.test("T-Client c: a 420 to several attributes takes one more request, to another attribute none", () => {
  const both = rigFor(
    { requestedFamily: "dual", dontFragment: true },
    unknown(DONT_FRAGMENT, ADDITIONAL_ADDRESS_FAMILY),
    granted([RELAYED]),
  );
  assertEquals([both.client.state, both.server.count(METHOD.ALLOCATE)], ["allocated", 3]);
  const other = rigFor({ evenPort: "even", dontFragment: true }, unknown(EVEN_PORT));
  assertEquals([other.client.state, other.server.count(METHOD.ALLOCATE)], ["failed", 2]);
  assertEquals((other.eventsOf("failed")[0]!.error as TurnError).code, 420);
});

Deno.test("RFC 8656 §11.1, §14: sendUnfragmented() goes by Send indication with DONT-FRAGMENT, also while it waits, and past a channel", () => {
  const rig = rigFor({ dontFragment: true }, granted([RELAYED]));
  const bytes = Uint8Array.of(1, 2, 3);
  rig.client.sendUnfragmented(PEER, bytes, rig.io);
  rig.send(PEER, "with fragments");
  rig.advance(100);
  rig.client.bindChannel(PEER, rig.io);
  rig.advance(100);
  rig.client.sendUnfragmented(PEER, bytes, rig.io);
  const sent = requests(rig, METHOD.SEND);
  assertEquals(sent.map((message) => message.has(DONT_FRAGMENT)), [true, false, true]);
  assertEquals(sent.map((message) => message.get(DATA)!.length), [3, 14, 3]);
  // RFC 8656 §14: 65,507 bytes less header, XOR-PEER-ADDRESS, DONT-FRAGMENT, and DATA with its padding.
  rig.client.sendUnfragmented(PEER, new Uint8Array(65_453), rig.io);
  assertEquals(rig.client.stats.droppedTooLong, 1);
});

Deno.test("RFC 8656 §7.1: EVEN-PORT with and without the R bit, and the token that comes of it", () => {
  const token = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const pair = rigFor({ evenPort: "pair" }, granted([RELAYED], (writer) => writer.add(RESERVATION_TOKEN, token)));
  assertEquals(requests(pair, METHOD.ALLOCATE).map((message) => message.get(EVEN_PORT)), [true, true]);
  assertEquals(pair.client.reservationToken, token);
  const even = rigFor({ evenPort: "even" }, granted([RELAYED]));
  assertEquals(requests(even, METHOD.ALLOCATE)[0]!.get(EVEN_PORT), false);
  assertEquals(even.client.reservationToken, undefined);
  const next = rigFor({ reservationToken: token }, granted([RELAYED]));
  const request = requests(next, METHOD.ALLOCATE)[0]!;
  assertEquals([request.get(RESERVATION_TOKEN), request.has(EVEN_PORT)], [token, false]);
});

Deno.test("RFC 8656 §7.1: what excludes each other is refused at once", () => {
  const make = (options: Partial<TurnClientOptions>) => () =>
    void new TurnClient({ server: SERVER, localAddress: "0.0.0.0", ...options });
  const token = new Uint8Array(8);
  assertThrows(make({ reservationToken: token, evenPort: "even" }), TypeError, "reservationToken with evenPort");
  assertThrows(make({ reservationToken: token, requestedFamily: 4 }), TypeError, "reservationToken");
  assertThrows(make({ reservationToken: token, requestedFamily: "dual" }), TypeError, "reservationToken");
  assertThrows(make({ reservationToken: new Uint8Array(7) }), RangeError, "must have 8 bytes: current length is 7");
  assertThrows(make({ requestedFamily: "dual", evenPort: "pair" }), TypeError, "pair of ports");
  make({ requestedFamily: "dual", evenPort: "even" })();
});

/** Our own server in the virtual internet. */
function place(addresses: readonly string[], options: Partial<ServeTurnOptions> = {}) {
  const world = new VirtualWorld({ seed: 1 });
  const serverHost = world.addHost("server", { addresses });
  const alice = world.addHost("alice", { addresses: ["203.0.113.1", "2001:db8:1::1"] });
  const server = serveTurn({
    listen: [String(SERVER)],
    realm: "example.org",
    users: { alice: "secret" },
    relayAddresses: addresses,
    allowPeers: ["203.0.113.0/24", "2001:db8::/32"],
    host: serverHost,
    ...options,
  });
  return { world, alice, server, relay: { server: SERVER, host: alice, username: "alice", password: "secret" } };
}

Deno.test("allocate({ family: 'dual' }): both families of our own server, or the one that it has", async () => {
  const both = place(["198.51.100.1", "2001:db8::1"]);
  await both.world.run(async () => {
    await using relay = await allocate({ ...both.relay, family: "dual" });
    assertEquals(relay.relayedAddresses.map(({ address }) => address), ["198.51.100.1", "2001:db8::1"]);
    const sockets = ["203.0.113.1", "2001:db8:1::1"].map((address) => {
      const got: string[] = [];
      const wish = { transport: "udp", address, port: 7000 } as const;
      both.alice.openDatagram(wish, ({ addresses }) => void got.push(addresses[0]!.address));
      return { got, address: TransportAddress.of(address, 7000) };
    });
    for (const { address } of sockets) {
      await relay.permit(address);
      relay.send(address, Uint8Array.of(1));
    }
    await both.world.sleep(100);
    assertEquals(sockets.map(({ got }) => got), [["198.51.100.1"], ["2001:db8::1"]]);
  });
  assertEquals(both.server.stats().allocations, 0);

  const single = place(["198.51.100.1"]);
  await single.world.run(async () => {
    await using relay = await allocate({ ...single.relay, family: "dual" });
    assertEquals(relay.relayedAddresses.map(({ address }) => address), ["198.51.100.1"]);
    assertEquals([relay.addressError?.family, relay.addressError?.code], [6, 440]);
  });
});

Deno.test("allocate(): a pair of ports on our own server", async () => {
  const { world, relay: options } = place(["198.51.100.1"]);
  await world.run(async () => {
    await using rtp = await allocate({ ...options, evenPort: "pair" });
    const { reservationToken } = rtp;
    await using rtcp = await allocate({ ...options, reservationToken: reservationToken! });
    assertEquals([rtp.relayedAddress.port % 2, rtcp.relayedAddress.port], [0, rtp.relayedAddress.port + 1]);
    const again = await assertRejects(() => allocate({ ...options, reservationToken: reservationToken! }), TurnError);
    assertEquals(again.code, 508);
  });
});
