// RFC 8016 in random lives: clients that move, break off, come back with any ticket, over UDP and connections.
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { TransportAddress } from "../../stun/address.ts";
import { METHOD, StunMessage } from "../../stun/message.ts";
import { CHANNEL_NUMBER, LIFETIME, MOBILITY_TICKET, XOR_PEER_ADDRESS } from "../../turn/attributes.ts";
import { addTransport, bytes, channelData, codeOf, PEER, RigClient, ServerRig, SOCKET } from "./_server_rig.ts";

const PLACES = 6;
/** Places from here on are connections. */
const FIRST_CONNECTION = 3;
const anyStep = fc.record({
  place: fc.nat(PLACES - 1),
  user: fc.constantFrom("alice", "alice", "alice", "alice", "alice", "bob"),
  act: fc.oneof(
    fc.record({ do: fc.constant("allocate" as const), mobile: fc.boolean() }),
    fc.record({ do: fc.constant("move" as const), ticket: fc.nat(20), lifetime: fc.constantFrom(0, 600, 600, 600) }),
    fc.record({ do: fc.constant("move" as const), ticket: fc.nat(2), lifetime: fc.constant(600) }),
    fc.record({ do: fc.constant("move" as const), ticket: fc.constant(0), lifetime: fc.constant(600) }),
    fc.record({ do: fc.constant("allocate" as const), mobile: fc.constant(true) }),
    fc.record({ do: fc.constantFrom("repeat" as const, "bind" as const, "data" as const, "send" as const) }),
    fc.record({ do: fc.constantFrom("data" as const, "peer" as const, "close" as const) }),
    fc.record({ do: fc.constant("refresh" as const), lifetime: fc.constantFrom(0, 600) }),
    fc.record({ do: fc.constant("wait" as const), ms: fc.constantFrom(1, 30_000, 599_999, 600_000) }),
  ),
});
type Step = typeof anyStep extends fc.Arbitrary<infer S> ? S : never;

class Lives {
  readonly rig = new ServerRig({ challengeRate: false });
  readonly #sockets: number[] = Array.from({ length: PLACES }, () => SOCKET);
  readonly #nonces = new Map<number, string>();
  /** All that were given so far, the newest first. */
  readonly #tickets: { readonly bytes: Uint8Array; readonly user: string }[] = [];
  #last: { readonly client: RigClient; readonly bytes: Uint8Array } | undefined;
  #nextSocket = 100;
  moves = 0;

  constructor() {
    for (let place = FIRST_CONNECTION; place < PLACES; place++) this.#connect(place);
  }

  step({ place, user, act }: Step): void {
    const { rig } = this;
    const client = this.#clientAt(place, user);
    switch (act.do) {
      case "wait":
        return rig.advance(act.ms);
      case "close":
        if (place < FIRST_CONNECTION) return;
        rig.server.handleClosed(this.#sockets[place]!, "reset", rig.io);
        return this.#connect(place);
      case "peer":
        for (const socket of rig.sockets.values()) {
          const sends = rig.receive(socket, PEER, bytes(1));
          assert(sends.length <= 1);
          for (const { socket } of sends) assert(this.#sockets.includes(socket), "To a connection that is there");
        }
        return;
      case "data":
        return this.#expect(client.send(channelData(0x4000, bytes(1))).map(({ to }) => to));
      case "send":
        return this.#expect(client.sendTo(PEER, bytes(1)).map(({ to }) => to));
      case "repeat":
        return this.#last === undefined ? undefined : void this.#ask(this.#last.client, this.#last.bytes);
    }
    const bytesOf = () => {
      if (act.do === "allocate") {
        return client.build(METHOD.ALLOCATE, (writer) => {
          addTransport(writer);
          if (act.mobile) writer.add(MOBILITY_TICKET, new Uint8Array());
        });
      }
      if (act.do === "bind") {
        return client.build(METHOD.CHANNEL_BIND, (writer) => {
          writer.add(CHANNEL_NUMBER, 0x4000).add(XOR_PEER_ADDRESS, PEER);
        });
      }
      return client.build(METHOD.REFRESH, (writer) => {
        writer.add(LIFETIME, "lifetime" in act ? act.lifetime : 600);
        if (act.do === "move") writer.add(MOBILITY_TICKET, this.#tickets[act.ticket]?.bytes ?? bytes(1));
      });
    };
    const owner = act.do === "move" ? this.#tickets[act.ticket]?.user : undefined;
    const code = this.#ask(client, bytesOf());
    if (act.do !== "move" || code !== 0) return;
    this.moves++;
    assertEquals(owner, user);
  }

  #ask(client: RigClient, request: Uint8Array): number {
    this.#last = { client, bytes: request };
    const sends = client.send(request);
    // A connection that is gone, or made anew, is not answered by this client's number.
    if (!this.#sockets.includes(client.socket)) return -1;
    assertEquals(sends.length, 1, "Requests are answered");
    const answer = StunMessage.parse(sends[0]!.bytes)!;
    if (codeOf(answer) === 438) this.#nonces.clear();
    const ticket = answer.get(MOBILITY_TICKET)?.slice();
    if (ticket !== undefined) this.#tickets.unshift({ bytes: ticket, user: client.username });
    return codeOf(answer);
  }

  #expect(to: readonly TransportAddress[]): void {
    assert(to.length <= 1 && to.every((one) => one.equals(PEER)));
  }

  #clientAt(place: number, user: string): RigClient {
    const client = new RigClient(this.rig, TransportAddress.of("192.0.2.7", 1000 + place), user);
    Object.assign(client, { socket: this.#sockets[place] });
    client.nonce = this.#nonces.get(place) ?? "";
    if (client.nonce === "") {
      client.challenge();
      this.#nonces.set(place, client.nonce);
    }
    return client;
  }

  #connect(place: number): void {
    const socket = this.#sockets[place] = this.#nextSocket++;
    this.rig.connect(socket, TransportAddress.of("192.0.2.7", 1000 + place));
  }
}

Deno.test("RFC 8016, T35: wherever clients go, and however they break off, all is bounded, and in the end nothing is left", () => {
  let moves = 0;
  fc.assert(
    fc.property(fc.array(anyStep, { minLength: 1, maxLength: 80, size: "max" }), (steps) => {
      const lives = new Lives();
      const { server } = lives.rig;
      for (const step of steps) {
        lives.step(step);
        const { tickets = 0, clients = 0 } = server.sizes;
        const { allocations } = server.counters;
        assert(tickets <= 4 * allocations && clients <= 2 * allocations, `${tickets}, ${clients}, ${allocations}`);
      }
      moves += lives.moves;
      lives.rig.advance(3_600_000);
      assertEquals([lives.rig.leftovers, server.deadline], [{}, Infinity]);
      assertEquals(new Set(lives.rig.io.closed).size, lives.rig.io.closed.length);
    }),
    { numRuns: 2000 },
  );
  assert(moves > 500, "The test has seen all sorts");
});
