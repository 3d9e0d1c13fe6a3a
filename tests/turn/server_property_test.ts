import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { TokenUsers } from "../../stun/access_token.ts";
import { TransportAddress } from "../../stun/address.ts";
import { bytesAttribute } from "../../stun/attribute.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import {
  ADDITIONAL_ADDRESS_FAMILY,
  CHANNEL_NUMBER,
  CONNECTION_ID,
  EVEN_PORT,
  LIFETIME,
  REQUESTED_ADDRESS_FAMILY,
  REQUESTED_TRANSPORT,
  RESERVATION_TOKEN,
  TRANSPORT_PROTOCOL,
  XOR_PEER_ADDRESS,
} from "../../turn/attributes.ts";
import {
  addTransport,
  bytes,
  channelData,
  CLIENT,
  codeOf,
  PEER,
  type RigClient,
  ServerRig,
  SOCKET,
  SOCKET6,
} from "./_server_rig.ts";

const TYPES = [0x0006, 0x0008, 0x000c, 0x000d, 0x0012, 0x0013, 0x0014, 0x0015, 0x0017, 0x0018, 0x0019, 0x001a, 0x001c];
const MORE_TYPES = [
  0x001b,
  0x8030,
  0x002a,
  0x001d,
  0x001e,
  0x0020,
  0x0022,
  0x7fff,
  0x8000,
  0x8002,
  0x8022,
  0x8028,
  0x8032,
];

const anySource = fc.oneof(
  fc.constant(CLIENT),
  fc.tuple(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.nat(65535)).map(([ip, port]) =>
    new TransportAddress(ip, port)
  ),
  fc.tuple(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.nat(65535)).map(([ip, port]) =>
    new TransportAddress(ip, port)
  ),
);
const anyAttribute = fc.tuple(fc.constantFrom(...TYPES, ...MORE_TYPES), fc.uint8Array({ maxLength: 40 }));
/** A well-formed message of any method and class with any attributes, then some bytes changed, then cut or grown. */
const anyMessage = fc.record({
  method: fc.oneof(fc.constantFrom(1, 3, 4, 6, 7, 8, 9, 10, 11, 12), fc.nat(0xff)),
  kind: fc.constantFrom("request", "indication", "success", "error"),
  attributes: fc.array(anyAttribute, { maxLength: 6 }),
  fingerprint: fc.boolean(),
  changes: fc.array(fc.tuple(fc.nat(300), fc.nat(255)), { maxLength: 3 }),
  size: fc.oneof(fc.constant(0), fc.integer({ min: -30, max: 8 })),
}).map(({ method, kind, attributes, fingerprint, changes, size }) => {
  const writer = new MessageWriter(new Uint8Array(1024)).begin(method, kind as "request", new Uint8Array(12));
  for (const [type, value] of attributes) writer.add(bytesAttribute(type, "ANY"), value);
  if (fingerprint) writer.addFingerprint();
  const message = writer.finish().slice();
  for (const [at, value] of changes) if (at < message.length) message[at] = value;
  const out = new Uint8Array(Math.max(0, message.length + size));
  out.set(message.subarray(0, out.length));
  return out;
});
const anyDatagram = fc.oneof(fc.uint8Array({ maxLength: 120 }), anyMessage);

Deno.test("Whatever strangers send: no exception, no state, no socket, at most one answer, to them", () => {
  const keys: [string, Uint8Array][] = [["a", new Uint8Array(16)]];
  const rig = new ServerRig({ tcpRelay: true, tokens: new TokenUsers({ serverName: "a", keys }) });
  // By UDP, by a connection, and where nobody is.
  rig.connect(100);
  const socket = fc.constantFrom(SOCKET, SOCKET6, 100, 999);
  fc.assert(
    fc.property(socket, anySource, anyDatagram, (socket, from, datagram) => {
      const sends = rig.receive(socket, from, datagram);
      assert(sends.length <= 1);
      for (const sent of sends) {
        assertEquals([sent.socket, sent.to.key], [socket, from.key]);
        const answer = StunMessage.parse(sent.bytes)!;
        assert(answer.class === "success" || answer.class === "error");
        assertEquals(answer.transactionKey, StunMessage.parse(datagram)!.transactionKey);
      }
      assertEquals([rig.leftovers, rig.io.opens.length, rig.server.deadline], [{}, 0, Infinity]);
    }),
    { numRuns: 20_000 },
  );
  const drops = Object.values(rig.server.counters.drops).reduce((sum, count) => sum + count, 0);
  assert(drops > 1000 && rig.server.counters.requests > 100, "The test has seen all sorts");
});

Deno.test("Whatever comes on a live 5-tuple without the key: the allocation stays as it is", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const [relay] = client.mustAllocate();
  client.bind(0x4000, PEER);
  const before = JSON.stringify([rig.server.sizes, rig.server.deadline]);
  fc.assert(
    fc.property(anyDatagram, (datagram) => {
      for (const { socket, to } of client.send(datagram)) {
        if (socket === relay!.socket) assertEquals(to.ipKey, PEER.ipKey);
        else assertEquals([socket, to.key], [SOCKET, CLIENT.key]);
      }
      assertEquals(JSON.stringify([rig.server.sizes, rig.server.deadline]), before);
    }),
    { numRuns: 10_000 },
  );
});

// Random lives: a few clients do what clients may, and more.

const PEERS = ["8.8.8.8:1", "8.8.8.8:2", "9.9.9.9:1", "[2606:4700::1]:1", "[2606:4700::2]:1", "10.0.0.1:1"].map((
  text,
) => TransportAddress.parse(text));
const anyPeer = fc.nat(PEERS.length - 1);
const anyStep = fc.record({
  who: fc.nat(3),
  act: fc.oneof(
    fc.record({ do: fc.constant("allocate" as const), variant: fc.nat(6) }),
    fc.record({ do: fc.constant("repeat" as const) }),
    fc.record({ do: fc.constant("refresh" as const), lifetime: fc.constantFrom(0, 0, 600, 3600), family: fc.nat(2) }),
    fc.record({ do: fc.constant("permit" as const), peers: fc.array(anyPeer, { maxLength: 3 }) }),
    fc.record({ do: fc.constant("bind" as const), number: fc.integer({ min: 0x3fff, max: 0x4003 }), peer: anyPeer }),
    fc.record({ do: fc.constant("send" as const), peer: anyPeer }),
    fc.record({ do: fc.constant("channel" as const), number: fc.integer({ min: 0x4000, max: 0x4003 }) }),
    fc.record({ do: fc.constant("peer" as const), peer: anyPeer, relay: fc.nat(5) }),
    fc.record({ do: fc.constant("wait" as const), ms: fc.constantFrom(1, 1000, 30_000, 299_999, 300_000, 600_000) }),
    fc.record({ do: fc.constant("sleep" as const), ms: fc.constantFrom(1000, 300_000, 600_000) }),
    fc.record({ do: fc.constant("fail" as const), port: fc.integer({ min: 50000, max: 50011 }), works: fc.boolean() }),
    fc.record({ do: fc.constant("open" as const), atOnce: fc.boolean() }),
  ),
});
type Act = typeof anyStep extends fc.Arbitrary<infer Step> ? Step extends { act: infer A } ? A : never : never;

/** Clients, and what they may expect to be let through by the RFC's rules. */
class Lives {
  readonly rig = new ServerRig({
    relayPorts: { min: 50000, max: 50011 },
    limits: { allocationsPerUser: 3, allocations: 4, permissions: 3, channels: 2 },
  });
  readonly clients: RigClient[] = [0, 1, 2, 3].map((i) =>
    this.rig.client(CLIENT.withPort(1000 + i), i < 3 ? "alice" : "bob")
  );
  readonly granted: Map<string, number>[] = this.clients.map(() => new Map());
  readonly requests: (Uint8Array | undefined)[] = this.clients.map(() => undefined);
  token: Uint8Array = new Uint8Array(8);

  step(who: number, act: Act): void {
    const { rig } = this;
    const client = this.clients[who]!;
    if (client.nonce === "") client.challenge();
    if (act.do === "wait") rig.advance(act.ms);
    else if (act.do === "sleep") rig.io.now += act.ms;
    else if (act.do === "open") {
      rig.opensAtOnce = act.atOnce;
      if (act.atOnce) rig.openAll();
      rig.io.takeSends();
    } else if (act.do === "fail") {
      if (act.works) rig.failures.delete(act.port);
      else rig.failures.set(act.port, act.port % 3 === 0 ? "other" : "address-in-use");
    } else if (act.do === "peer") {
      const relays = [...rig.sockets.values()];
      const socket = relays[act.relay % Math.max(1, relays.length)] ?? 0;
      assert(rig.receive(socket, PEERS[act.peer]!, bytes(1)).length <= 1);
    } else this.#clientStep(who, client, act);
  }

  #clientStep(who: number, client: RigClient, act: Act): void {
    const { rig } = this;
    if (act.do === "send") this.#check(who, client.sendTo(PEERS[act.peer]!, bytes(1)));
    else if (act.do === "channel") this.#check(who, client.send(channelData(act.number, bytes(1))));
    else {
      const request = act.do === "repeat" ? this.requests[who] : this.#build(client, act);
      if (request === undefined) return;
      this.requests[who] = request;
      const sends = client.send(request);
      const answers = sends.filter(({ to }) => to.key === client.address.key).map(({ bytes }) =>
        StunMessage.parse(bytes)!
      );
      const isAllocate = StunMessage.parse(request)!.method === METHOD.ALLOCATE;
      assert(answers.length === 1 || (isAllocate && answers.length === 0 && !rig.opensAtOnce), "Requests are answered");
      const [answer] = answers;
      if (answer === undefined) return;
      assert(codeOf(answer) !== 401);
      this.token = answer.get(RESERVATION_TOKEN)?.slice() ?? this.token;
      // A nonce that has become stale is replaced.
      if (codeOf(answer) === 438) client.challenge();
      if (codeOf(answer) === 0) this.#grant(who, request);
    }
  }

  #build(client: RigClient, act: Act): Uint8Array | undefined {
    if (act.do === "allocate") {
      return client.build(METHOD.ALLOCATE, (writer) => {
        addTransport(writer);
        if (act.variant === 1) writer.add(EVEN_PORT, false);
        if (act.variant === 2) writer.add(EVEN_PORT, true);
        if (act.variant === 3) writer.add(RESERVATION_TOKEN, this.token);
        if (act.variant === 4) writer.add(ADDITIONAL_ADDRESS_FAMILY, 6);
        if (act.variant === 5) writer.add(REQUESTED_ADDRESS_FAMILY, 6);
      });
    }
    if (act.do === "refresh") {
      return client.build(METHOD.REFRESH, (writer) => {
        writer.add(LIFETIME, act.lifetime);
        if (act.family > 0) writer.add(REQUESTED_ADDRESS_FAMILY, act.family === 1 ? 4 : 6);
      });
    }
    if (act.do === "permit") {
      return client.build(
        METHOD.CREATE_PERMISSION,
        (w) => act.peers.forEach((i) => w.add(XOR_PEER_ADDRESS, PEERS[i]!)),
      );
    }
    if (act.do !== "bind") return undefined;
    return client.build(
      METHOD.CHANNEL_BIND,
      (w) => w.add(CHANNEL_NUMBER, act.number).add(XOR_PEER_ADDRESS, PEERS[act.peer]!),
    );
  }

  #grant(who: number, request: Uint8Array): void {
    const message = StunMessage.parse(request)!;
    const lifetime = message.method === METHOD.CREATE_PERMISSION
      ? 300_000
      : message.method === METHOD.CHANNEL_BIND
      ? 600_000
      : 0;
    for (const peer of lifetime === 0 ? [] : message.getAll(XOR_PEER_ADDRESS)) {
      assert(peer!.address !== "10.0.0.1", "A private peer");
      const until = Math.max(this.granted[who]!.get(peer!.address) ?? 0, this.rig.io.now + lifetime);
      this.granted[who]!.set(peer!.address, until);
    }
  }

  /** What goes to peers goes where leave was given, within its time. */
  #check(who: number, sends: ReturnType<RigClient["send"]>): void {
    for (const { to } of sends) {
      if (this.clients.some((client) => client.address.key === to.key)) continue;
      assert((this.granted[who]!.get(to.address) ?? 0) > this.rig.io.now, `Sent to ${to} without leave`);
    }
  }
}

Deno.test("T35: after any lives at all, nothing is left: no allocation, port, timer, socket, quota or reservation", () => {
  fc.assert(
    fc.property(fc.array(anyStep, { minLength: 1, maxLength: 80 }), (steps) => {
      const lives = new Lives();
      const { rig } = lives;
      const opened = new Set<number>();
      const { open } = rig.io;
      rig.io.open = (wish) => {
        const socket = open.call(rig.io, wish);
        opened.add(socket);
        return socket;
      };
      for (const { who, act } of steps) {
        lives.step(who, act);
        const { allocations, reservations } = rig.server.counters;
        assertEquals([allocations, reservations], [rig.server.sizes.clients, rig.server.sizes.reservations]);
      }
      rig.openAll();
      rig.advance(3_600_000);
      assertEquals([rig.leftovers, rig.server.deadline], [{}, Infinity]);
      // Each socket that was bound has been closed, once.
      const failed = rig.server.counters.openFailures;
      assertEquals(new Set(rig.io.closed).size, rig.io.closed.length);
      assertEquals(rig.io.closed.length + failed, opened.size);
    }),
    { numRuns: 2000 },
  );
});

// Random lives of TCP allocations: control connections, peers that connect and are connected to, data connections.

const anyTcpStep = fc.record({
  who: fc.nat(2),
  n: fc.nat(7),
  peer: fc.constantFrom(0, 0, 1, 2, 3),
  act: fc.constantFrom(
    ...["allocate", "allocate", "permit", "permit", "connect", "connect", "connect", "open", "open", "open"] as const,
    ...["fail", "attempt", "attempt", "attempt", "bind", "bind", "bind", "bind", "bind", "close"] as const,
    ...["closeControl", "refresh", "delete", "send", "wait", "sleep"] as const,
  ),
});
type TcpStep = typeof anyTcpStep extends fc.Arbitrary<infer Step> ? Step : never;

/** Three clients by TCP, of two users, and all sockets that there ever were. */
class TcpLives {
  readonly rig = new ServerRig({
    tcpRelay: true,
    relayPorts: { min: 50000, max: 50003 },
    limits: { connectionsPerAllocation: 3, connections: 5, permissions: 3 },
  });
  /** What the driver has, and has not been told to close. */
  readonly live = this.rig.watchSockets();
  readonly ids: number[] = [];
  readonly #clients: (RigClient | undefined)[] = [undefined, undefined, undefined];
  #next = 10_000;

  step({ who, n, peer, act }: TcpStep): void {
    const { rig } = this;
    const client = this.#clients[who] ??= this.#connect(who);
    if (client.nonce === "") client.challenge();
    const address = PEERS[peer]!;
    const { connects } = rig;
    if (act === "wait") rig.advance([1, 1000, 29_999, 30_000, 300_000, 600_000, 10, 100][n]!);
    else if (act === "sleep") rig.io.now += [1, 1000, 30_000, 300_000, 600_000, 10, 100, 1][n]!;
    else if (act === "open" || act === "fail") {
      const [found] = connects.splice(n % Math.max(1, connects.length), 1);
      if (found === undefined || !this.live.has(found.socket)) return;
      if (act === "open") rig.server.handleOpened(found.socket, CLIENT, rig.io);
      else {
        this.live.delete(found.socket);
        rig.server.handleOpenFailed(found.socket, "refused", rig.io);
      }
      this.#note(rig.io.takeSends());
    } else if (act === "attempt") {
      const listeners = [...rig.sockets.values()].filter((socket) => this.live.has(socket));
      if (listeners.length === 0) return;
      this.live.add(++this.#next);
      this.#note(rig.accept(listeners[n % listeners.length]!, this.#next, address.withPort(1 + n)));
    } else if (act === "bind") this.#bind(who, n);
    else if (act === "close") {
      const controls = this.#clients.map((one) => one?.socket);
      const sockets = [...this.live].filter((socket) => socket >= 10_000 && !controls.includes(socket));
      if (sockets.length > 0) this.#lose(sockets[n % sockets.length]!);
    } else if (act === "closeControl") this.#lose(client.socket);
    else this.#request(client, act, address, n);
  }

  /** The driver tells of an end: of both ends of a pipe. */
  #lose(socket: number): void {
    const { io, server } = this.rig;
    const pipe = io.joins.find(({ a, b }) => a === socket || b === socket);
    for (const gone of pipe === undefined ? [socket] : [socket, pipe.a === socket ? pipe.b : pipe.a]) {
      if (this.live.delete(gone)) server.handleClosed(gone, "end", io);
      const who = this.#clients.findIndex((client) => client?.socket === gone);
      if (who !== -1) this.#clients[who] = undefined;
    }
  }

  #connect(who: number): RigClient {
    this.live.add(++this.#next);
    return this.rig.connect(this.#next, CLIENT.withPort(this.#next), who < 2 ? "alice" : "bob");
  }

  #bind(who: number, n: number): void {
    const client = this.#connect(who);
    client.nonce = "";
    assertEquals(codeOf(client.ask(client.build(METHOD.CONNECTION_BIND, () => {}, { auth: "none" }))), 401);
    client.challenge();
    const id = this.ids.at(-1 - n % 3) ?? n;
    const code = client.code(METHOD.CONNECTION_BIND, (writer) => writer.add(CONNECTION_ID, id));
    assert([0, 400, 441].includes(code), `${code}`);
    if (code === 0) assertEquals(this.rig.io.joins.at(-1)!.a, client.socket);
    else this.#lose(client.socket);
  }

  #request(client: RigClient, act: TcpStep["act"], peer: TransportAddress, n: number): void {
    const methods: Record<string, number> = {
      allocate: METHOD.ALLOCATE,
      permit: METHOD.CREATE_PERMISSION,
      connect: METHOD.CONNECT,
      refresh: METHOD.REFRESH,
      delete: METHOD.REFRESH,
    };
    if (act === "send") return assertEquals(client.sendTo(peer, bytes(1)), []);
    const sends = client.send(client.build(methods[act]!, (writer) => {
      if (act === "allocate") writer.add(REQUESTED_TRANSPORT, TRANSPORT_PROTOCOL.TCP);
      if (act === "allocate" && n > 5) writer.add(ADDITIONAL_ADDRESS_FAMILY, 6);
      if (act === "permit" || act === "connect") writer.add(XOR_PEER_ADDRESS, peer);
      if (act === "delete") writer.add(LIFETIME, 0);
    }));
    assert(sends.length === (act === "connect" ? Math.min(1, sends.length) : 1), "Requests are answered");
    const answer = sends[0] === undefined ? undefined : StunMessage.parse(sends[0].bytes)!;
    assert(answer === undefined || (codeOf(answer) !== 401 && answer.transactionKey !== ""));
    if (answer !== undefined && codeOf(answer) === 438) client.challenge();
  }

  #note(sends: ReturnType<RigClient["send"]>): void {
    for (const { bytes } of sends) {
      const id = StunMessage.parse(bytes)!.get(CONNECTION_ID);
      if (id !== undefined) this.ids.push(id);
    }
  }
}

Deno.test("T35, RFC 6062: after any lives of TCP allocations nothing is left, and each socket is closed once", () => {
  let joined = 0;
  fc.assert(
    fc.property(fc.array(anyTcpStep, { minLength: 1, maxLength: 120, size: "max" }), (steps) => {
      const lives = new TcpLives();
      const { rig } = lives;
      for (const step of steps) {
        lives.step(step);
        const { counters } = rig.server;
        assert(counters.connections <= 5 && counters.connections >= 0);
        assertEquals(counters.allocations, rig.server.sizes.clients);
      }
      joined += rig.server.counters.connectionsTotal;
      rig.advance(3_600_000);
      assertEquals([rig.leftovers, rig.server.deadline, rig.server.counters.connections], [{}, Infinity, 0]);
      // What is left are the clients' own control connections.
      for (const socket of lives.live) {
        assert(socket > 10_000 && !rig.io.joins.some(({ a, b }) => [a, b].includes(socket)));
      }
    }),
    { numRuns: 800 },
  );
  assert(joined > 100, `The test has seen all sorts: ${joined}`);
});
