import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MuxMember, MuxTable } from "../../ice/mux_table.ts";
import { TransportAddress } from "../../stun/address.ts";
import { USERNAME, XOR_MAPPED_ADDRESS } from "../../stun/attributes.ts";
import { MessageWriter, METHOD } from "../../stun/message.ts";

const address = (text: string) => TransportAddress.parse(text);
const R = address("192.0.2.1:1");
const S = address("192.0.2.2:2");

interface Bytes {
  readonly buffer: Uint8Array;
  readonly offset: number;
  readonly length: number;
}

function whole(buffer: Uint8Array): Bytes {
  return { buffer, offset: 0, length: buffer.length };
}

function message(kind: "request" | "success" | "error", id: number, username?: string): Bytes {
  const transactionId = new Uint8Array(12).fill(id & 0xff);
  transactionId[11] = id >>> 8;
  const writer = new MessageWriter(new Uint8Array(200)).begin(METHOD.BINDING, kind, transactionId);
  if (username !== undefined) writer.add(USERNAME, username);
  if (kind === "success") writer.add(XOR_MAPPED_ADDRESS, S);
  return whole(writer.finish());
}

const DATA = whole(new TextEncoder().encode("data"));

/** A table with members a and b. */
function scene() {
  const table = new MuxTable();
  const [a, b] = [new MuxMember(), new MuxMember()];
  table.addUfrag(a, "aaaa");
  table.addUfrag(b, "bbbb");
  /** A check of a member's that is answered from there. */
  const validate = (member: MuxMember, from: TransportAddress, id: number, now = 0) => {
    table.noteSent(member, from, message("request", id, "peer:own"), now);
    return table.route(from, message("success", id), now);
  };
  return { table, a, b, validate };
}

Deno.test("Mux: a request is whose username fragment it names, a response whose the request was, data whose peer sends it", () => {
  const { table, a, b, validate } = scene();
  assertEquals(table.route(R, DATA, 0), undefined);
  assertEquals(table.route(R, message("request", 1, "bbbb:peer"), 0), b);
  // Data on the heels of a check: the agent may hold it.
  assertEquals(table.route(R, DATA, 0), b);
  assertEquals(table.route(S, DATA, 0), undefined);
  assertEquals(validate(a, S, 2), a);
  assertEquals(table.route(S, DATA, 0), a);
  for (const username of ["cccc:peer", "bbbb", "", ":", undefined]) {
    assertEquals(table.route(address("192.0.2.9:9"), message("request", 3, username), 0), undefined, username);
  }
  assertEquals(table.counters, { delivered: 4, unknown: 7, conflicts: 0 });
});

Deno.test("Mux: an address that answers one member's checks is not another's, whoever claims it, until it is silent", () => {
  const { table, a, b, validate } = scene();
  validate(a, R, 1);
  assertEquals(table.route(R, message("request", 2, "bbbb:peer"), 1000), undefined);
  assertEquals(validate(b, R, 3, 14_999), undefined);
  assertEquals(table.counters.conflicts, 2);
  assertEquals(table.route(R, DATA, 14_999), a);
  // Consent is answered every few seconds, and then no more.
  validate(a, R, 4, 5000);
  assertEquals(validate(b, R, 5, 19_999), undefined);
  assertEquals(validate(b, R, 6, 20_000), b);
  assertEquals(table.route(R, DATA, 20_000), b);
  table.remove(b);
  assertEquals(table.route(R, DATA, 20_000), undefined);
  assertEquals(validate(a, R, 7, 20_000), a);
});

Deno.test("Mux: a STUN server's answers are each one's own, and do not make its address anybody's", () => {
  const { table, a, b } = scene();
  for (const [i, member] of [a, b].entries()) {
    table.noteSent(member, S, message("request", i), 0);
    assertEquals(table.route(S, message("success", i), 0), member);
    assertEquals(table.route(S, message("error", i), 0), member);
  }
  assertEquals(table.route(S, DATA, 0), undefined);
  assertEquals(table.counters.conflicts, 0);
});

Deno.test("Mux: an answer from elsewhere, or that is an error, makes no address a member's", () => {
  const { table, a } = scene();
  table.noteSent(a, R, message("request", 1, "peer:own"), 0);
  // RFC 8445 §7.2.5.2.1: the agent is to see that.
  assertEquals(table.route(S, message("success", 1), 0), a);
  assertEquals(table.route(R, message("error", 1), 0), a);
  assertEquals([table.route(S, DATA, 0), table.route(R, DATA, 0)], [undefined, undefined]);
});

Deno.test("Mux: a lite member's addresses are those whose checks it answers with success", () => {
  const { table, b } = scene();
  const lite = new MuxMember({ isLite: true });
  table.addUfrag(lite, "lite");
  table.route(R, message("request", 1, "lite:peer"), 0);
  table.noteSent(lite, R, message("error", 1), 0);
  assertEquals(table.route(R, message("request", 2, "bbbb:peer"), 0), b);
  table.noteSent(lite, R, message("success", 2), 0);
  assertEquals(table.route(R, message("request", 3, "bbbb:peer"), 0), undefined);
  assertEquals(table.route(R, DATA, 0), lite);
});

Deno.test("Mux: after a restart both username fragments count, after two the latest two; nobody has another's", () => {
  const { table, a, b } = scene();
  table.addUfrag(a, "aaa2");
  for (const name of ["aaaa", "aaa2"]) assertEquals(table.route(R, message("request", 1, `${name}:x`), 0), a);
  table.addUfrag(a, "aaa3");
  assertEquals(table.route(S, message("request", 1, "aaaa:x"), 0), undefined);
  assertThrows(() => table.addUfrag(b, "aaa2"), Error, 'has the username fragment "aaa2"');
  table.addUfrag(a, "aaa2");
});

Deno.test("Mux: what strangers cause is bounded, and what a member has remembered", () => {
  const { table, a, validate } = scene();
  const spread = (i: number) => TransportAddress.of(`10.${i >>> 16}.${(i >>> 8) & 255}.${i & 255}`, 5);
  for (let i = 0; i < 10_000; i++) table.route(spread(i), message("request", 1, "aaaa:x"), 0);
  const heard = Array.from({ length: 10_000 }, (_, i) => table.route(spread(i), DATA, 0)).filter((one) => one === a);
  assertEquals(heard.length, 4096);
  for (let i = 0; i < 300; i++) table.noteSent(a, R, message("request", i), 0);
  assertEquals([table.route(S, message("error", 43), 0), table.route(S, message("error", 44), 0)], [undefined, a]);
  assertEquals(a.requests.size, 256);
  for (let i = 0; i < 200; i++) validate(a, TransportAddress.of("192.0.2.77", i + 1), 1000 + i);
  assertEquals(a.remotes.size, 100);
  table.remove(a);
  assertEquals([a.requests.size, a.remotes.size], [0, 0]);
});

Deno.test("Mux, property: whatever strangers and members do, data from a peer's address goes to that peer's member only", () => {
  const remotes = Array.from({ length: 4 }, (_, i) => TransportAddress.of("192.0.2.1", i + 1));
  const step = fc.record({
    kind: fc.constantFrom("check", "answer", "request", "data", "garbage", "leave"),
    member: fc.nat(3),
    remote: fc.nat(3),
    id: fc.nat(7),
    wait: fc.nat(3000),
    bytes: fc.uint8Array({ maxLength: 60 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const table = new MuxTable();
      const members = [0, 1, 2, 3].map(() => new MuxMember());
      members.forEach((member, i) => table.addUfrag(member, `ufrag${i}`));
      // The model: who sent which request whereto last, who was answered where, and when.
      const sent = new Map<number, { member: number; remote: number }>();
      const owners = new Map<number, { member: number; until: number }>();
      let now = 0;
      for (const { kind, member, remote, id, wait, bytes } of steps) {
        now += wait;
        const [who, from] = [members[member]!, remotes[remote]!];
        const owner = owners.get(remote);
        const isFree = (other: number) => owner === undefined || owner.member === other || now >= owner.until;
        if (kind === "check") {
          table.noteSent(who, from, message("request", id, "peer:own"), now);
          sent.set(id, { member, remote });
        } else if (kind === "answer") {
          const request = sent.get(id);
          const got = table.route(from, message("success", id), now);
          if (request === undefined) {
            assertEquals(got === undefined || owner !== undefined || got.ufrags.length > 0, true);
          } else if (request.remote !== remote) {
            assertEquals(got, members[request.member]);
          } else if (isFree(request.member)) {
            assertEquals(got, members[request.member]);
            owners.set(remote, { member: request.member, until: now + 15_000 });
          } else assertEquals(got, undefined);
        } else if (kind === "request") {
          const got = table.route(from, message("request", 99, `ufrag${member}:peer`), now);
          assertEquals(got, who.ufrags.length > 0 && isFree(member) ? who : who.ufrags.length > 0 ? undefined : got);
        } else if (kind === "leave") {
          table.remove(who);
          for (const [key, value] of owners) if (value.member === member) owners.delete(key);
          for (const [key, value] of sent) if (value.member === member) sent.delete(key);
          table.addUfrag(who, `ufrag${member}`);
        } else {
          const payload = kind === "data" ? DATA : whole(bytes);
          const got = table.route(from, payload, now);
          if (owner !== undefined) assertEquals(got, members[owner.member]);
        }
      }
      return true;
    }),
    { numRuns: 500 },
  );
  assert(true);
});
