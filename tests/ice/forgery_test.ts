import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { TransportAddress } from "../../stun/address.ts";
import { MessageWriter, METHOD } from "../../stun/message.ts";
import { accept, type Beginning, BEGINNINGS, SECOND } from "./beginnings.ts";
import { HOST, PEER, Rig } from "./rig.ts";

const WRONG = "wrongwrongwrongwrongwrong";
const ADDRESSES = [
  PEER,
  HOST,
  SECOND,
  TransportAddress.parse("203.0.113.9:7777"),
  TransportAddress.parse("198.51.100.1:3478"),
];

/** What an attacker may send who knows everything but the passwords. */
type Forgery =
  | { readonly kind: "noise"; readonly bytes: Uint8Array }
  | { readonly kind: "header"; readonly type: number; readonly bytes: Uint8Array }
  | {
    readonly kind: "request";
    readonly useCandidate: boolean;
    readonly nomination: number | undefined;
    readonly role: "controlling" | "controlled";
    readonly tie: bigint;
  }
  | { readonly kind: "success" | "unsigned success"; readonly which: number }
  | { readonly kind: "error" | "unsigned error"; readonly which: number; readonly code: number }
  | { readonly kind: "bent"; readonly which: number; readonly at: number; readonly bit: number };

type Step =
  | {
    readonly do: "forge";
    readonly forgery: Forgery;
    readonly from: number | "the peer's";
    readonly socket: number | "the peer's" | "a stranger's";
  }
  | { readonly do: "wait"; readonly ms: number }
  | { readonly do: "genuine answer" | "genuine check" | "genuine nomination" };

const which = fc.nat(20);
const anyForgery: fc.Arbitrary<Forgery> = fc.oneof(
  fc.record({ kind: fc.constant("noise" as const), bytes: fc.uint8Array({ maxLength: 80 }) }),
  fc.record({
    kind: fc.constant("header" as const),
    type: fc.constantFrom(0x0001, 0x0011, 0x0101, 0x0111, 0x0003, 0x0113),
    bytes: fc.uint8Array({ minLength: 12, maxLength: 12 }),
  }),
  fc.record({
    kind: fc.constant("request" as const),
    useCandidate: fc.boolean(),
    nomination: fc.constantFrom(undefined, 1, 0xffffff),
    role: fc.constantFrom("controlling" as const, "controlled" as const),
    tie: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  }),
  fc.record({ kind: fc.constantFrom("success" as const, "unsigned success" as const), which }),
  fc.record({
    kind: fc.constantFrom("error" as const, "unsigned error" as const),
    which,
    code: fc.constantFrom(400, 401, 403, 487, 500),
  }),
  fc.record({ kind: fc.constant("bent" as const), which, at: fc.nat(200), bit: fc.nat(7) }),
);
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("forge" as const),
      forgery: anyForgery,
      from: fc.constantFrom(...ADDRESSES.keys(), "the peer's" as const),
      socket: fc.constantFrom(1, 2, "the peer's" as const, "a stranger's" as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.constantFrom(1, 20, 50, 600, 6000) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom("genuine answer" as const, "genuine check" as const, "genuine nomination" as const),
    }),
  },
);

function forge(rig: Rig, forgery: Forgery): Uint8Array | undefined {
  const request = "which" in forgery ? rig.requests.at(-1 - forgery.which % rig.requests.length) : undefined;
  switch (forgery.kind) {
    case "noise":
      return forgery.bytes;
    case "header": {
      const bytes = new MessageWriter(new Uint8Array(60)).begin(METHOD.BINDING, "request", forgery.bytes).finish()
        .slice();
      bytes[0] = forgery.type >> 8;
      bytes[1] = forgery.type & 255;
      return bytes;
    }
    case "request":
      return rig.requestBytes({
        pwd: WRONG,
        useCandidate: forgery.useCandidate,
        ...forgery.nomination !== undefined && { nomination: forgery.nomination },
        role: forgery.role,
        tieBreaker: forgery.tie,
      });
    case "success":
    case "unsigned success":
      return request && rig.successBytes(request, { pwd: WRONG, integrity: forgery.kind === "success" });
    case "error":
    case "unsigned error":
      return request && rig.errorBytes(request, forgery.code, forgery.kind === "error" ? WRONG : "");
    case "bent": {
      // A genuine answer with one bit changed; the ones that nothing protects are not forgeries but the same message.
      const bytes = request && rig.successBytes(request, { fingerprint: false });
      if (bytes === undefined) return undefined;
      bytes[forgery.at % bytes.length]! ^= 1 << forgery.bit;
      return bytes;
    }
  }
}

/** All that must not depend on what strangers send. */
function view(rig: Rig) {
  const { agent } = rig;
  return {
    state: agent.state,
    role: agent.role,
    selected: agent.selectedPair?.id,
    pairs: agent.pairs.map((
      { id, state, nominated, heard, rtt, local },
    ) => [id, state, nominated, heard, rtt, local.type]),
    remotes: agent.remoteCandidates.map(({ type, address }) => `${type} ${address}`),
    locals: agent.localCandidates.length,
    events: rig.eventTypes(),
    requests: rig.requests.map(({ to, at, bytes }) => `${to} ${at} ${bytes}`),
    deadline: agent.deadline,
  };
}

/** Time, or what the peer itself does. */
function genuine({ rig, from, socket }: Beginning, step: Exclude<Step, { do: "forge" }>): void {
  if (step.do === "wait") rig.advance(step.ms);
  else if (step.do === "genuine answer") rig.requests.length > 0 && rig.succeed(rig.lastRequest());
  else rig.request({ from, socket, useCandidate: step.do === "genuine nomination" });
}

Deno.test("Bad input: no sequence of packets from somebody without the passwords changes an agent's state", () => {
  const roles = fc.constantFrom("controlling" as const, "controlled" as const);
  const beginnings = fc.constantFrom(...Object.keys(BEGINNINGS));
  fc.assert(
    fc.property(roles, beginnings, fc.array(anyStep, { maxLength: 40 }), (role, name, steps) => {
      const attacked = BEGINNINGS[name]!(role);
      const calm = BEGINNINGS[name]!(role);
      let strangers = 200;
      for (const step of steps) {
        if (step.do === "forge") {
          const bytes = forge(attacked.rig, step.forgery);
          if (bytes === undefined) continue;
          const from = step.from === "the peer's" ? attacked.from : ADDRESSES[step.from]!;
          const socket = step.socket === "the peer's" ? attacked.socket : step.socket;
          // Over TCP somebody else has a connection of their own.
          if (socket === "a stranger's") accept(attacked.rig, ++strangers, from);
          attacked.rig.receive(bytes, from, socket === "a stranger's" ? strangers : socket);
        } else for (const one of [attacked, calm]) genuine(one, step);
        assertEquals(view(attacked.rig), view(calm.rig), name);
      }
    }),
    { numRuns: 2000 },
  );
});

Deno.test("Bad input: an answer to a forgery is sent to where it came from, once, and is never longer than it by much", () => {
  const rig = Rig.completed();
  fc.assert(
    fc.property(anyForgery, fc.nat(ADDRESSES.length - 1), (forgery, from) => {
      const bytes = forge(rig, forgery);
      if (bytes === undefined) return;
      rig.sent.length = 0;
      rig.receive(bytes, ADDRESSES[from]!);
      assertEquals(rig.sent.length <= 1, true);
      for (const { to, bytes: answer } of rig.sent) {
        assertEquals(to, ADDRESSES[from]);
        assertEquals(answer.length <= 36, true);
      }
    }),
    { numRuns: 300 },
  );
});
