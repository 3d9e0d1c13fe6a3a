import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { TransportAddress } from "../../stun/address.ts";
import { MessageWriter, METHOD } from "../../stun/message.ts";
import type { IceRole } from "../../ice/pair.ts";
import { HOST, PEER, Rig } from "./rig.ts";

const WRONG = "wrongwrongwrongwrongwrong";
const ADDRESSES = [PEER, HOST, TransportAddress.parse("203.0.113.9:7777"), TransportAddress.parse("198.51.100.1:3478")];

/** What an attacker may send who knows everything but the passwords. */
type Forgery =
  | { readonly kind: "noise"; readonly bytes: Uint8Array }
  | { readonly kind: "header"; readonly type: number; readonly bytes: Uint8Array }
  | {
    readonly kind: "request";
    readonly useCandidate: boolean;
    readonly role: "controlling" | "controlled";
    readonly tie: bigint;
  }
  | { readonly kind: "success" | "unsigned success"; readonly which: number }
  | { readonly kind: "error" | "unsigned error"; readonly which: number; readonly code: number }
  | { readonly kind: "bent"; readonly which: number; readonly at: number; readonly bit: number };

type Step =
  | { readonly do: "forge"; readonly forgery: Forgery; readonly from: number; readonly socket: number }
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
      from: fc.nat(ADDRESSES.length - 1),
      socket: fc.constantFrom(1, 2),
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

const BEGINNINGS = [
  "gathered",
  "checking",
  "connected",
  "completed",
  "restarted",
  "auto",
  "lite",
  "lite completed",
] as const;

function begin(beginning: typeof BEGINNINGS[number], role: IceRole): Rig {
  switch (beginning) {
    case "restarted": {
      const rig = Rig.completed({ role });
      rig.agent.restart(rig.io);
      rig.agent.endOfLocalCandidates(rig.io);
      return rig;
    }
    case "auto":
      return Rig.gathered({ role: "auto" });
    case "lite":
      return Rig.checking({ role, lite: true });
    case "lite completed": {
      const rig = Rig.checking({ role, lite: true });
      rig.request({ useCandidate: true });
      return rig;
    }
    default:
      return Rig[beginning]({ role });
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

Deno.test("Bad input: no sequence of packets from somebody without the passwords changes an agent's state", () => {
  const roles = fc.constantFrom("controlling" as const, "controlled" as const);
  fc.assert(
    fc.property(roles, fc.constantFrom(...BEGINNINGS), fc.array(anyStep, { maxLength: 40 }), (role, start, steps) => {
      const attacked = begin(start, role);
      const calm = begin(start, role);
      for (const step of steps) {
        if (step.do === "forge") {
          const bytes = forge(attacked, step.forgery);
          if (bytes !== undefined) attacked.receive(bytes, ADDRESSES[step.from]!, step.socket);
        } else {
          for (const rig of [attacked, calm]) {
            if (step.do === "wait") rig.advance(step.ms);
            else if (step.do === "genuine answer" && rig.requests.length > 0) rig.succeed(rig.lastRequest());
            else if (step.do === "genuine check") rig.request();
            else if (step.do === "genuine nomination") rig.request({ useCandidate: true });
          }
        }
        assertEquals(view(attacked), view(calm));
      }
    }),
    { numRuns: 600 },
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
