// Several servers with one memory, as the workers of `serveTurnWorkers()` are: their limits and ports are those of one.
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { ERROR_CODE } from "../../stun/error.ts";
import { METHOD } from "../../stun/message.ts";
import { EVEN_PORT, RESERVATION_TOKEN } from "../../turn/attributes.ts";
import type { TurnServerOptions } from "../../turn/server.ts";
import { SharedState } from "../../turn/shared_state.ts";
import { seededRandom } from "../_recorder.ts";
import { addTransport, bytes, CLIENT, codeOf, PEER, SERVER, ServerRig } from "./_server_rig.ts";

const SECRET = Uint8Array.from({ length: 32 }, (_, i) => 7 * i);
const RELAY_ADDRESSES = [{ address: SERVER.address }];
/** How much earlier the clock of each worker began. */
const CLOCKS = [0, 750_000, 333];

/** Workers of one server, each with a clock of its own. */
function workers(count: number, options: Partial<TurnServerOptions> = {}) {
  const { relayAddresses = RELAY_ADDRESSES } = options;
  const memory = SharedState.allocate(relayAddresses.length);
  const rigs = CLOCKS.slice(0, count).map((clock) => {
    const shared = new SharedState(memory, { secret: SECRET, clock });
    const rig = new ServerRig({ relayAddresses, shared, ...options });
    rig.io.now -= clock;
    return rig;
  });
  return { rigs, memory, advance: (ms: number) => rigs.forEach((rig) => rig.advance(ms)) };
}

function clientAt(port: number): TransportAddress {
  return CLIENT.withPort(port);
}

/** What is not zero in memory, but for times, which stay. */
function leftCounts(memory: SharedArrayBuffer): number {
  const state = new SharedState(memory, { secret: SECRET, clock: 0 });
  const ports = state.portStates(0).filter((one) => one !== 0).length;
  return ports + state.total + state.countOf("alice") + state.countOf("bob");
}

Deno.test("Workers, RFC 8656 §7.2: a user's quota counts at all of them, and is free again at all of them", () => {
  const { rigs: [one, other], memory } = workers(2, { limits: { allocationsPerUser: 2 } });
  const first = one!.client(clientAt(1));
  assertEquals(codeOf(first.allocate()), 0);
  assertEquals(codeOf(other!.client(clientAt(2)).allocate()), 0);
  for (const rig of [one!, other!]) {
    assertEquals(codeOf(rig.client(clientAt(3)).allocate()), ERROR_CODE.ALLOCATION_QUOTA_REACHED);
    assertEquals(rig.server.counters.limits.allocationsPerUser, 1);
  }
  assertEquals(codeOf(other!.client(clientAt(3), "bob").allocate()), 0);
  first.refresh(0);
  assertEquals(codeOf(other!.client(clientAt(4)).allocate()), 0);
  assertEquals(new SharedState(memory, { secret: SECRET, clock: 0 }).total, 3);
});

Deno.test("Workers, RFC 8656 §7.2: the quota of all users counts at all of them", () => {
  const { rigs: [one, other] } = workers(2, { limits: { allocations: 2 } });
  one!.client(clientAt(1)).mustAllocate();
  other!.client(clientAt(2), "bob").mustAllocate();
  assertEquals(codeOf(one!.client(clientAt(3), "bob").allocate()), ERROR_CODE.INSUFFICIENT_CAPACITY);
  assertEquals(codeOf(other!.client(clientAt(3)).allocate()), ERROR_CODE.INSUFFICIENT_CAPACITY);
});

Deno.test("Workers: no port is given out twice, and all of them are", () => {
  const { rigs } = workers(3, { relayPorts: { min: 50000, max: 50029 } });
  const ports = new Set<number>();
  for (let i = 0; i < 30; i++) {
    ports.add(rigs[i % 3]!.client(clientAt(1000 + i)).mustAllocate()[0]!.relayed.port);
  }
  assertEquals(ports.size, 30);
  assertEquals(codeOf(rigs[0]!.client(clientAt(2000)).allocate()), ERROR_CODE.INSUFFICIENT_CAPACITY);
});

Deno.test("Workers: a client of one reaches a client of another by its relayed address, and nobody when that has ended", () => {
  const relayAddresses = [{ address: SERVER.address, external: "8.8.4.4" }];
  const { rigs: [one, other] } = workers(2, { relayAddresses });
  const alice = one!.client(clientAt(1));
  const bob = other!.client(clientAt(2), "bob");
  const [a] = alice.mustAllocate();
  const [b] = bob.mustAllocate();
  assertEquals(a!.relayed.address, "8.8.4.4");
  assertEquals(alice.bind(0x4000, b!.relayed), 0);
  assertEquals(bob.permit(a!.relayed), 0);
  // Between the two sockets it goes by their inner addresses; clients see the outer ones.
  const [sent] = alice.sendOn(0x4000, bytes(1, 2, 3));
  const inner = TransportAddress.of(SERVER.address, b!.relayed.port);
  assertEquals([String(sent!.to), sent!.socket], [String(inner), a!.socket]);
  const from = TransportAddress.of(SERVER.address, a!.relayed.port);
  const [received] = other!.receive(b!.socket, from, sent!.bytes);
  assertEquals(String(received!.to), String(bob.address));
  bob.refresh(0);
  assertEquals(alice.sendOn(0x4000, bytes(1)), []);
  assertEquals(one!.drops, { refusedPeer: 1 });
});

Deno.test("Workers, RFC 8656 §7.2, T15: a reserved port is had from any of them, once", () => {
  const { rigs: [one, other], memory } = workers(2);
  for (const taker of [other!, one!]) {
    const first = one!.client(clientAt(taker === one ? 1 : 2));
    const answer = first.allocate((writer) => writer.add(EVEN_PORT, true));
    assertEquals(codeOf(answer), 0);
    const token = answer.get(RESERVATION_TOKEN)!;
    const second = taker.client(clientAt(taker === one ? 3 : 4));
    const [{ relayed } = { relayed: SERVER }] = second.mustAllocate((writer) => writer.add(RESERVATION_TOKEN, token));
    assertEquals(relayed.port % 2, 1);
    const again = taker.client(clientAt(taker === one ? 5 : 6));
    assertEquals(
      codeOf(again.allocate((writer) => writer.add(RESERVATION_TOKEN, token))),
      ERROR_CODE.INSUFFICIENT_CAPACITY,
    );
    first.refresh(0);
    second.refresh(0);
  }
  one!.advance(30_000);
  assertEquals(leftCounts(memory), 0);
  assertEquals([one!.leftovers, other!.leftovers], [{}, {}]);
});

Deno.test("Workers, T15: a reserved port that nobody takes is free after 30 s; one that the host has given away is 508", () => {
  const { rigs: [one, other], memory, advance } = workers(2);
  const reserve = (port: number) => {
    const client = one!.client(clientAt(port));
    const token = client.allocate((w) => w.add(EVEN_PORT, true)).get(RESERVATION_TOKEN)!;
    client.refresh(0);
    return token;
  };
  const forgotten = reserve(1);
  advance(30_000);
  assertEquals(leftCounts(memory), 0);
  const allocate = (token: Uint8Array, port: number) =>
    codeOf(other!.client(clientAt(port)).allocate((writer) => writer.add(RESERVATION_TOKEN, token)));
  assertEquals(allocate(forgotten, 2), ERROR_CODE.INSUFFICIENT_CAPACITY);
  const taken = reserve(3);
  for (let port = 49152; port <= 65535; port++) other!.failures.set(port, "address-in-use");
  assertEquals(allocate(taken, 4), ERROR_CODE.INSUFFICIENT_CAPACITY);
  advance(30_000);
  assertEquals(leftCounts(memory), 0);
  assertEquals([one!.leftovers, other!.leftovers], [{}, {}]);
});

for (const limit of ["userBandwidth", "serverBandwidth"] as const) {
  Deno.test(`Workers: ${limit} is one for all of them, whatever their clocks`, () => {
    const { rigs: [one, other], advance } = workers(2, { limits: { [limit]: 800_000 } }); // 100 datagrams of 1000 bytes.
    const clients = [one!.client(clientAt(1)), other!.client(clientAt(2))];
    for (const client of clients) {
      client.mustAllocate();
      client.permit(PEER);
    }
    const data = new Uint8Array(1000);
    const sent = () => clients.map((client) => client.sendTo(PEER, data).length).reduce((sum, n) => sum + n);
    let total = 0;
    advance(1000);
    for (let i = 0; i < 100; i++) total += sent();
    assertEquals(total, 100);
    advance(100);
    for (let i = 0; i < 100; i++) total += sent();
    assertEquals(total, 110);
  });
}

Deno.test("Workers: a source gets as many answers without credentials as from one server", () => {
  const { rigs, advance } = workers(3, { challengeRate: { rate: 10, burst: 20 } });
  const ask = () =>
    rigs.map((rig, i) => {
      const client = rig.client(clientAt(i + 1));
      const request = client.build(METHOD.ALLOCATE, addTransport, { auth: "none" });
      return rig.receive(client.socket, client.address, request).length;
    }).reduce((sum, n) => sum + n);
  let answers = 0;
  for (let i = 0; i < 30; i++) answers += ask();
  assertEquals(answers, 20);
  advance(1000);
  for (let i = 0; i < 30; i++) answers += ask();
  assertEquals(answers, 30);
});

Deno.test("Workers, T35: after any lives at all nothing is left in the memory they share", () => {
  const { rigs, memory, advance } = workers(3, { relayPorts: { min: 50000, max: 50063 }, challengeRate: false });
  const random = seededRandom(5);
  const byte = new Uint8Array(2);
  const roll = (below: number) => {
    random.fill(byte);
    return (byte[0]! * 256 + byte[1]!) % below;
  };
  const tokens: Uint8Array[] = [];
  const codes = new Map<number, number>();
  for (let i = 0; i < 3000; i++) {
    const rig = rigs[roll(3)]!;
    const client = rig.client(clientAt(1 + roll(40)), roll(2) === 0 ? "alice" : "bob");
    const what = roll(10);
    const token = tokens[roll(Math.max(1, tokens.length))];
    const answer = what < 4
      ? client.allocate()
      : what < 6
      ? client.allocate((writer) => writer.add(EVEN_PORT, true))
      : what < 7 && token !== undefined
      ? client.allocate((writer) => writer.add(RESERVATION_TOKEN, token))
      : client.refresh(0);
    const made = answer.get(RESERVATION_TOKEN);
    if (made !== undefined) tokens.push(made);
    codes.set(codeOf(answer), (codes.get(codeOf(answer)) ?? 0) + 1);
    if (roll(20) === 0) advance(roll(20_000));
  }
  assert(codes.get(0)! > 500);
  advance(3_600_000);
  assertEquals(leftCounts(memory), 0);
  assertEquals(rigs.map((rig) => rig.leftovers), [{}, {}, {}]);
});

Deno.test("Workers: users are told apart", () => {
  const state = new SharedState(SharedState.allocate(1), { secret: SECRET, clock: 0 });
  const names = Array.from({ length: 2000 }, (_, i) => `user${i}`);
  for (const name of [...names, "", "a", "a\0", "a\0\0\0", "é"]) state.count(name, 1);
  const wrong = names.filter((name) => state.countOf(name) !== 1);
  // With (2000 / 65536)⁴ for each.
  assertEquals(wrong, []);
  assertEquals(["a", "a\0", "a\0\0\0"].map((name) => state.countOf(name)), [1, 1, 1]);
  assertNotEquals(state.total, 0);
});
