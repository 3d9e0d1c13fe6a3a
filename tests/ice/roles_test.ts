import { assertEquals, assertNotEquals } from "@std/assert";
import { ERROR_CODE_ATTRIBUTE } from "../../stun/attributes.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import { ICE_CONTROLLED, ICE_CONTROLLING, USE_CANDIDATE } from "../../ice/attributes.ts";
import type { IceRole } from "../../ice/pair.ts";
import { PEER_PWD, PEER_UFRAG, Rig } from "./rig.ts";

/** What the agent makes of a check from a peer with the same role. */
function conflict(role: IceRole, ours: bigint, theirs: bigint): { role: IceRole; answer: number | "success" } {
  const rig = Rig.gathered({ role, tieBreaker: ours });
  rig.request({ role, tieBreaker: theirs });
  return { role: rig.agent.role, answer: rig.lastAnswer().get(ERROR_CODE_ATTRIBUTE)?.code ?? "success" };
}

Deno.test("I14, RFC 8445 §7.3.1.1: controlling and a controlling peer: the larger or equal tie-breaker keeps the role, with 487", () => {
  assertEquals(conflict("controlling", 5n, 4n), { role: "controlling", answer: 487 });
  assertEquals(conflict("controlling", 5n, 5n), { role: "controlling", answer: 487 });
  assertEquals(conflict("controlling", 5n, 6n), { role: "controlled", answer: "success" });
});

Deno.test("I14, RFC 8445 §7.3.1.1: controlled and a controlled peer: the larger or equal tie-breaker takes control", () => {
  assertEquals(conflict("controlled", 5n, 4n), { role: "controlling", answer: "success" });
  assertEquals(conflict("controlled", 5n, 5n), { role: "controlling", answer: "success" });
  assertEquals(conflict("controlled", 5n, 6n), { role: "controlled", answer: 487 });
});

Deno.test("I14: tie-breakers are compared as 64-bit numbers", () => {
  const big = 2n ** 63n;
  assertEquals(conflict("controlling", big, big + 1n).role, "controlled");
  assertEquals(conflict("controlling", big + 1n, big).role, "controlling");
});

Deno.test("RFC 8445 §7.3.1.1: no conflict without the attribute, or with the other role", () => {
  for (const role of ["controlling", "controlled"] as const) {
    const rig = Rig.gathered({ role, tieBreaker: 0n });
    rig.request({ role: "none", tieBreaker: 9n });
    rig.request({ tieBreaker: 9n });
    assertEquals([rig.agent.role, rig.lastAnswer().class], [role, "success"]);
  }
});

Deno.test("I16: a 487 is signed with our password and has a fingerprint", () => {
  const rig = Rig.gathered({ tieBreaker: 9n });
  rig.request({ role: "controlling" });
  const answer = rig.lastAnswer();
  assertEquals(answer.get(ERROR_CODE_ATTRIBUTE)?.code, 487);
  assertEquals(answer.verifyIntegrity(IntegrityKey.shortTerm(rig.agent.localParameters.pwd)), true);
  assertEquals(answer.verifyFingerprint(), true);
});

Deno.test("RFC 8445 §7.3.1.1: a request refused with 487 triggers nothing", () => {
  const rig = Rig.checking({ tieBreaker: 9n });
  rig.request({ role: "controlling" });
  assertEquals(rig.agent.pairs[0]!.state, "in-progress");
  rig.advance(200);
  assertEquals(rig.requests.length, 1);
});

Deno.test("I15, RFC 8445 §7.2.5.1: a 487 changes the role and the tie-breaker, and the pair is checked again", () => {
  const rig = Rig.checking({ tieBreaker: 5n });
  rig.advance(10);
  rig.refuse(rig.lastRequest(), 487);
  assertEquals([rig.agent.role, rig.agent.pairs[0]!.state], ["controlled", "waiting"]);
  rig.advance(40);
  const again = rig.lastRequest();
  assertEquals(again.at, 50);
  assertEquals(again.message!.has(ICE_CONTROLLING), false);
  assertNotEquals(again.message!.get(ICE_CONTROLLED), 5n);
  assertEquals(rig.eventTypes().filter((type) => type === "role").length, 1);
});

Deno.test("I15: the change of role computes pair priorities anew", () => {
  const rig = Rig.gathered();
  rig.candidate((Rig.checking().sent[0]!).to, "srflx", 1694498815);
  rig.remote();
  const before = rig.agent.pairs[0]!.priority;
  rig.refuse(rig.lastRequest(), 487);
  assertEquals([before & 1n, rig.agent.pairs[0]!.priority & 1n], [1n, 0n]);
});

Deno.test("I15: of several 487s, also to requests of the old role, only the first changes the role", () => {
  const rig = Rig.checking();
  const first = rig.lastRequest();
  rig.request();
  rig.advance(50);
  const second = rig.lastRequest();
  rig.refuse(second, 487);
  assertEquals(rig.agent.role, "controlled");
  rig.refuse(first, 487);
  assertEquals(rig.agent.role, "controlled");
  rig.advance(50);
  rig.succeed(rig.lastRequest());
  assertEquals(rig.agent.state, "connected");
});

Deno.test("I15: a check of the old role that is still on its way is not repeated beside the new one", () => {
  const rig = Rig.checking();
  const first = rig.lastRequest();
  rig.request();
  rig.advance(50);
  rig.refuse(first, 487);
  rig.advance(1000);
  const times = new Map<string, number>();
  for (const { message } of rig.requests) {
    times.set(message!.transactionKey, (times.get(message!.transactionKey) ?? 0) + 1);
  }
  // Sent once at 0, once at 50, and at 100 with a repetition at 600.
  assertEquals([...times.values()], [1, 1, 2]);
});

Deno.test("I15: an agent that has lost control takes back a nomination on its way, and takes the peer's", () => {
  const rig = Rig.connected();
  rig.advance(40);
  const nomination = rig.lastRequest();
  assertEquals(nomination.message!.has(USE_CANDIDATE), true);
  rig.request({ role: "controlling", tieBreaker: 2n ** 64n - 1n });
  assertEquals(rig.agent.role, "controlled");
  rig.succeed(nomination);
  assertEquals(rig.agent.state, "connected");
  rig.request({ useCandidate: true });
  assertEquals(rig.agent.state, "completed");
});

Deno.test("An agent that has gained control nominates", () => {
  const rig = Rig.connected({ role: "controlled", tieBreaker: 9n });
  rig.advance(1000);
  assertEquals(rig.requests.length, 0);
  rig.request({ role: "controlled", tieBreaker: 1n });
  assertEquals(rig.agent.role, "controlling");
  assertEquals(rig.lastRequest().message!.has(USE_CANDIDATE), true);
  rig.succeed(rig.lastRequest());
  assertEquals(rig.agent.state, "completed");
});

Deno.test("RFC 8445 §6.1.1: with a lite peer the full agent controls, whatever was said", () => {
  const rig = Rig.gathered({ role: "controlled" });
  rig.candidate((Rig.checking().sent[0]!).to);
  rig.remote(PEER_UFRAG, PEER_PWD, { lite: true });
  assertEquals([rig.agent.role, rig.lastRequest().message!.has(ICE_CONTROLLING)], ["controlling", true]);
});

Deno.test("Role auto: of both sides the one whose username fragment sorts first controls, without a conflict", () => {
  for (const [ufrag, role] of [["AAAA", "controlling"], ["ZZZZ", "controlled"]] as const) {
    const rig = Rig.checking({ role: "auto", ufrag });
    assertEquals(rig.agent.role, role);
    assertEquals(rig.lastRequest().message!.has(role === "controlling" ? ICE_CONTROLLING : ICE_CONTROLLED), true);
    assertEquals(rig.events.filter(({ type }) => type === "role"), [{ type: "role", role }]);
  }
});

Deno.test("Role auto: an early check of the peer's decides, whatever the tie-breakers and the fragments", () => {
  for (const [theirs, ours] of [["controlled", "controlling"], ["controlling", "controlled"]] as const) {
    for (const [ufrag, tieBreaker] of [["AAAA", 0n], ["ZZZZ", 9n]] as const) {
      const rig = Rig.gathered({ role: "auto", ufrag, tieBreaker });
      rig.request({ role: theirs, tieBreaker: 5n });
      assertEquals([rig.lastAnswer().class, rig.agent.role], ["success", ours]);
      rig.remote();
      assertEquals(rig.agent.role, ours);
      assertEquals(rig.lastRequest().message!.has(ours === "controlling" ? ICE_CONTROLLING : ICE_CONTROLLED), true);
    }
  }
});

Deno.test("Role auto: a nomination that comes early counts when the peer's credentials do", () => {
  const rig = Rig.gathered({ role: "auto", ufrag: "AAAA" });
  rig.request({ role: "controlling", useCandidate: true });
  rig.remote();
  rig.succeed(rig.lastRequest());
  assertEquals([rig.agent.role, rig.agent.state], ["controlled", "completed"]);
});

Deno.test("Role auto: early checks of another session, without authentication, or without a role decide nothing", () => {
  const rig = Rig.gathered({ role: "auto", ufrag: "AAAA" });
  rig.request({ role: "controlling", username: "AAAA:fork" });
  rig.request({ role: "controlling", pwd: "wrongwrongwrongwrongwrong" });
  rig.request({ role: "none" });
  rig.remote();
  assertEquals(rig.agent.role, "controlling");
});

Deno.test("Role auto: once it is decided, a conflict is one", () => {
  const rig = Rig.checking({ role: "auto", ufrag: "AAAA", tieBreaker: 5n });
  rig.request({ role: "controlling", tieBreaker: 4n });
  assertEquals([rig.agent.role, rig.lastAnswer().get(ERROR_CODE_ATTRIBUTE)?.code], ["controlling", 487]);
  rig.request({ role: "controlling", tieBreaker: 6n });
  assertEquals([rig.agent.role, rig.lastAnswer().class], ["controlled", "success"]);
});

Deno.test("Role auto, RFC 8445 §6.1.1: with a lite peer the full agent controls", () => {
  const rig = Rig.gathered({ role: "auto", ufrag: "ZZZZ" });
  rig.remote(PEER_UFRAG, PEER_PWD, { lite: true });
  assertEquals(rig.agent.role, "controlling");
});
