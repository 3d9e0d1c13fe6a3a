import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import {
  ERROR_CODE_ATTRIBUTE,
  NONCE,
  PASSWORD_ALGORITHM,
  PASSWORD_ALGORITHMS,
  REALM,
  UNKNOWN_ATTRIBUTES,
  XOR_MAPPED_ADDRESS,
} from "../../stun/attributes.ts";
import { LongTermCredentials, type RequestCredentials } from "../../stun/credentials.ts";
import { StunIntegrityError, StunTimeoutError } from "../../stun/error.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { ClientRequests, type ClientRequestsOptions, type RequestOutcome } from "../../stun/requests.ts";
import { RtoCache } from "../../stun/rto_cache.ts";
import { ShortTermCredentials } from "../../stun/short_term.ts";
import { RecordingIo } from "../_recorder.ts";

const SERVER = TransportAddress.parse("198.51.100.1:3478");

/** Requests, what they sent and how they ended. */
function make(options: Partial<ClientRequestsOptions> = {}) {
  const io = new RecordingIo();
  const requests = new ClientRequests<never>({
    server: SERVER,
    known: new Set([0x0008, 0x0009, 0x0014, 0x0015, 0x001c, 0x0020]),
    ...options,
  });
  requests.socket = 1;
  const outcomes: RequestOutcome[] = [];
  const done = (outcome: RequestOutcome) => void outcomes.push(outcome);
  const start = () => requests.start({ method: METHOD.BINDING, doing: "Cannot ask", write() {}, done }, io);
  /** The requests that have left, each once for each time. */
  const sent = () => io.sends.map(({ bytes }) => StunMessage.parse(bytes)!);
  const answer = (request: StunMessage, code?: number, add: (writer: MessageWriter) => unknown = () => {}) => {
    const writer = new MessageWriter(new Uint8Array(256)).beginResponse(
      request,
      code === undefined ? "success" : "error",
    );
    if (code === undefined) writer.add(XOR_MAPPED_ADDRESS, SERVER);
    else writer.add(ERROR_CODE_ATTRIBUTE, { code, reason: "" });
    add(writer);
    return requests.handleResponse(StunMessage.parse(writer.finish())!, io);
  };
  /** Lets time pass up to `at`. */
  const advance = (at: number) => {
    for (; requests.deadline <= at; requests.handleTimeout(io)) io.now = requests.deadline;
    io.now = at;
  };
  return { io, requests, outcomes, start, sent, answer, advance, start0: io.now };
}

const wrongKey = IntegrityKey.shortTerm("guess");

Deno.test("RFC 8489 §6.2: ten requests to a server are under way at most; the others follow as those end", () => {
  const { requests, outcomes, start, sent, answer } = make();
  for (let i = 0; i < 25; i++) start();
  assertEquals([sent().length, requests.size], [10, 25]);
  answer(sent()[3]!);
  answer(sent()[0]!, 500);
  assertEquals([sent().length, requests.size, outcomes.length], [12, 23, 2]);
  for (let i = 0; requests.size > 0; i++) answer(sent()[i]!);
  assertEquals([sent().length, outcomes.length], [25, 25]);
});

Deno.test("RFC 8489 §6.2: requests that are not answered make room for others as well", () => {
  const { requests, outcomes, start, advance, start0 } = make({ retransmit: { rc: 1, rm: 1 } });
  for (let i = 0; i < 25; i++) start();
  for (const [ms, ended] of [[499, 0], [500, 10], [1000, 20], [1500, 25]] as const) {
    advance(start0 + ms);
    assertEquals(outcomes.length, ended);
  }
  assertEquals([requests.size, requests.deadline], [0, Infinity]);
});

Deno.test("RFC 8489 §6.2: over TCP any number of requests may be under way", () => {
  const { start, sent } = make({ reliable: true });
  for (let i = 0; i < 25; i++) start();
  assertEquals(sent().length, 25);
});

Deno.test("ClientRequests.clear() forgets those that wait, too", () => {
  const { requests, outcomes, start, sent, answer } = make();
  for (let i = 0; i < 12; i++) start();
  requests.clear();
  assertEquals([requests.size, requests.deadline, answer(sent()[0]!)], [0, Infinity, false]);
  start();
  assertEquals([sent().length, outcomes.length], [11, 0]);
});

Deno.test("RFC 8489 §6.2.2: over TCP a request is not repeated, and has failed after Ti", () => {
  for (const [retransmit, ti] of [[{}, 39_500], [{ rto: 100, rc: 3, rm: 1, ti: 5000 }, 5000]] as const) {
    const { requests, outcomes, start, sent, advance, start0 } = make({ reliable: true, retransmit });
    start();
    advance(start0 + ti - 1);
    assertEquals([sent().length, outcomes.length, requests.deadline], [1, 0, start0 + ti]);
    advance(start0 + ti);
    const [outcome] = outcomes;
    assert(outcome?.type === "failed");
    assertInstanceOf(outcome.error, StunTimeoutError);
    assertEquals(sent().length, 1);
  }
});

Deno.test("RFC 8489 §6.2.1: the first RTO is what the server's answers have taught", () => {
  const rtoCache = new RtoCache();
  const { requests, start, sent, answer, advance, start0 } = make({ rtoCache });
  start();
  advance(start0 + 400);
  answer(sent()[0]!);
  start();
  assertEquals(requests.deadline, start0 + 400 + 1200);
  // Karn: it is sent again, so the answer's time says nothing, and the next one starts with the doubled RTO.
  advance(start0 + 400 + 1300);
  answer(sent()[1]!);
  start();
  assertEquals(requests.deadline, start0 + 1700 + 2400);
  // What the caller says goes first.
  const other = make({ rtoCache, retransmit: { rto: 700 } });
  other.start();
  assertEquals(other.requests.deadline, other.start0 + 700);
});

Deno.test("RFC 8489 §6.2.1: what was not authenticated teaches no RTO", () => {
  const rtoCache = new RtoCache();
  const { start, sent, answer, advance, start0 } = make({ rtoCache, credentials: new ShortTermCredentials("a", "b") });
  start();
  advance(start0 + 400);
  answer(sent()[0]!, undefined, (writer) => writer.addIntegrity(wrongKey));
  assertEquals(rtoCache.size, 0);
});

Deno.test("RFC 8489 §9.1.4, §9.2.5: wrong integrity is as silence over UDP, and told as what it was in the end", () => {
  const { io, requests, outcomes, start, sent, answer, advance, start0 } = make({
    credentials: new ShortTermCredentials("alice", "secret"),
  });
  start();
  for (let i = 0; i < 7; i++) {
    answer(sent()[0]!, 401);
    advance(requests.deadline);
  }
  const [outcome] = outcomes;
  assert(outcome?.type === "failed");
  assertInstanceOf(outcome.error, StunIntegrityError, "401");
  assertEquals([sent().length, requests.ignored, io.now - start0], [7, 7, 39_500]);
});

Deno.test("RFC 8489 §9.1.4, §9.2.5: wrong integrity ends a request over TCP at once", () => {
  const longTerm = new LongTermCredentials("alice", "secret");
  const all: readonly RequestCredentials[] = [new ShortTermCredentials("alice", "secret"), longTerm];
  for (const credentials of all) {
    const { outcomes, start, sent, answer } = make({ reliable: true, credentials });
    start();
    if (credentials === longTerm) answer(sent()[0]!, 401, (writer) => writer.add(REALM, "r").add(NONCE, "n"));
    answer(sent().at(-1)!, undefined, (writer) => writer.addIntegrity(wrongKey));
    const [outcome] = outcomes;
    assert(outcome?.type === "failed");
    assertInstanceOf(outcome.error, StunIntegrityError);
  }
});

Deno.test("RFC 8489 §9.2.5: a 400 without integrity is as silence over TCP as well", () => {
  const { outcomes, requests, start, sent, answer, start0 } = make({
    reliable: true,
    credentials: new LongTermCredentials("alice", "secret"),
  });
  start();
  answer(sent()[0]!, 400);
  assertEquals([outcomes.length, requests.deadline], [0, start0 + 39_500]);
});

Deno.test("T-Client c, RFC 8489 §9.2.1: PASSWORD-ALGORITHM goes only to who offered it; a forged 420 does not make it go", () => {
  const old = make({ credentials: new LongTermCredentials("alice", "secret") });
  old.start();
  old.answer(old.sent()[0]!, 401, (writer) => writer.add(REALM, "r").add(NONCE, "n"));
  assertEquals(old.sent()[1]!.has(PASSWORD_ALGORITHM), false);

  const { start, sent, answer, outcomes, requests } = make({ credentials: new LongTermCredentials("alice", "secret") });
  start();
  const offer = [{ algorithm: 2, parameters: new Uint8Array() }, { algorithm: 1, parameters: new Uint8Array() }];
  answer(sent()[0]!, 401, (writer) => {
    writer.add(REALM, "r").add(NONCE, "obMatJos2AAABn").add(PASSWORD_ALGORITHMS, offer);
  });
  assertEquals(sent()[1]!.has(PASSWORD_ALGORITHM), true);
  // To go on without it would be what somebody wants who can break MD5. The request goes on as it was.
  answer(sent()[1]!, 420, (writer) => writer.add(UNKNOWN_ATTRIBUTES, [PASSWORD_ALGORITHM.type]));
  assertEquals([sent().length, outcomes.length, requests.ignored], [2, 0, 1]);
});

Deno.test("T-Client a, RFC 8489 §9.2.5: Binding: each 438 with another nonce is met, the same nonce again is final", () => {
  const { start, sent, answer, outcomes } = make({ credentials: new LongTermCredentials("alice", "secret") });
  start();
  answer(sent()[0]!, 401, (writer) => writer.add(REALM, "r").add(NONCE, "0"));
  for (let i = 1; i <= 3; i++) {
    answer(sent()[i]!, 438, (writer) => writer.add(REALM, "r").add(NONCE, String(i)));
    assertEquals(sent()[i + 1]!.get(NONCE), String(i));
  }
  answer(sent()[4]!, 438, (writer) => writer.add(REALM, "r").add(NONCE, "3"));
  const [outcome] = outcomes;
  assert(outcome?.type === "error");
  assertEquals([outcome.error.code, sent().length], [438, 5]);
});

Deno.test("T-Client a, RFC 8489 §9.2.5: Binding: a 401 to credentials is final", () => {
  const { start, sent, answer, outcomes } = make({ credentials: new LongTermCredentials("alice", "secret") });
  start();
  for (const i of [0, 1]) answer(sent()[i]!, 401, (writer) => writer.add(REALM, "r").add(NONCE, String(i)));
  const [outcome] = outcomes;
  assert(outcome?.type === "error");
  assertEquals([outcome.error.code, sent().length], [401, 2]);
});
