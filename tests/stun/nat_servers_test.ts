// Servers that misbehave, and servers that can do little: each has its own outcome, and no report takes longer than it says.
import { assert, assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { ERROR_CODE_ATTRIBUTE, MAPPED_ADDRESS, SOFTWARE, XOR_MAPPED_ADDRESS } from "../../stun/attributes.ts";
import {
  CHANGE_REQUEST,
  CHANGED_ADDRESS,
  OTHER_ADDRESS,
  PADDING,
  RESPONSE_PORT,
} from "../../stun/discovery_attributes.ts";
import type { Machine, MachineIo, Packet } from "../../stun/machine.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import type { NatReport, ProbeOutcome } from "../../stun/nat_report.ts";
import { Driver } from "../../stun/net/driver.ts";
import { reportIn } from "./nat_world.ts";

interface Answering {
  /** The request. */
  readonly request: StunMessage;
  readonly packet: Packet;
  readonly io: MachineIo;
  /** How many requests came before. */
  readonly count: number;
  /** A success response to it. */
  success(write?: (writer: MessageWriter) => void): Uint8Array;
  /** Sends from the socket with this number, by default from where it was asked. */
  send(bytes: Uint8Array, socket?: number): void;
  /** Does something later. */
  after(ms: number, work: (io: MachineIo) => void): void;
}

/** A server that does as told. Its sockets are 198.51.100.1:3478 (0) and 198.51.100.2:3479 (1). */
class Server implements Machine {
  deadline = Infinity;
  sockets: number[] = [];
  #answer: (answering: Answering) => void;
  #count = 0;
  #later: { at: number; work: (io: MachineIo) => void }[] = [];

  constructor(answer: (answering: Answering) => void) {
    this.#answer = answer;
  }

  handleTimeout(io: MachineIo): void {
    const due = this.#later.filter(({ at }) => at <= io.now);
    this.#later = this.#later.filter(({ at }) => at > io.now);
    this.deadline = Math.min(Infinity, ...this.#later.map(({ at }) => at));
    for (const { work } of due) work(io);
  }

  handlePacket(packet: Packet, io: MachineIo): void {
    const bytes = packet.bytes.slice();
    const request = StunMessage.parse(bytes)!;
    const { socket, from } = packet;
    const send = (bytes: Uint8Array, index = this.sockets.indexOf(socket)) =>
      io.send(this.sockets[index]!, from, bytes);
    this.#answer({
      request,
      packet,
      io,
      count: this.#count++,
      send,
      success(write = (writer) => void writer.add(XOR_MAPPED_ADDRESS, from).add(MAPPED_ADDRESS, from)) {
        const writer = new MessageWriter(new Uint8Array(4096)).beginResponse(request, "success");
        write(writer);
        return writer.finish();
      },
      after: (ms, work) => {
        this.#later.push({ at: io.now + ms, work });
        this.deadline = Math.min(this.deadline, io.now + ms);
      },
    });
  }
}

async function reportWith(
  answer: (answering: Answering) => void,
  more: Partial<Parameters<typeof reportIn>[0]> = {},
): Promise<NatReport> {
  const { report } = await reportIn({
    serve: undefined,
    nat: {},
    prepare(_world, host) {
      const server = new Server(answer);
      const handle = new Driver(host).add(server);
      for (const [address, port] of [["198.51.100.1", 3478], ["198.51.100.2", 3479]] as const) {
        server.sockets.push(handle.bind({ transport: "udp", address, port }).socket);
      }
    },
    ...more,
  });
  return report;
}

function error(code: number): (answering: Answering) => void {
  return ({ request, send }) => {
    const writer = new MessageWriter(new Uint8Array(64)).beginResponse(request, "error");
    send(writer.add(ERROR_CODE_ATTRIBUTE, { code, reason: "" }).finish());
  };
}

const wrongTransaction = ({ success, send }: Answering) => {
  const bytes = success();
  bytes[19]! ^= 1;
  send(bytes);
};

const BAD: readonly [name: string, ProbeOutcome, answer: (answering: Answering) => void][] = [
  ["never answers", "silent", () => {}],
  ["answers with garbage", "garbage", ({ send }) => send(new Uint8Array([1, 1, 0, 8, 1, 2, 3]))],
  ["answers with text", "garbage", ({ send }) => send(new TextEncoder().encode("220 ready\r\n"))],
  ["answers with nothing", "garbage", ({ send }) => send(new Uint8Array(0))],
  ["answers another transaction", "wrong transaction", wrongTransaction],
  ["answers from another address", "wrong address", ({ success, send }) => send(success(), 1)],
  ["answers after 5.5 s", "too late", ({ success, packet, after }) => {
    const bytes = success();
    const { socket, from } = packet;
    after(5500, (io) => io.send(socket, from, bytes));
  }],
  ["answers without an address", "no address", ({ success, send }) => send(success(() => {}))],
  ["answers with error 401", "error", error(401)],
  ["answers with error 300", "error", error(300)],
  [
    "answers with an attribute that must be understood",
    "garbage",
    ({ success, send, packet }) =>
      send(success((writer) => {
        writer.add(XOR_MAPPED_ADDRESS, packet.from).add({ ...PADDING, type: 0x7777 }, new Uint8Array(4));
      })),
  ],
  ["answers by another method", "garbage", ({ request, send }) => {
    const id = request.transactionId;
    send(new MessageWriter(new Uint8Array(64)).begin(METHOD.ALLOCATE, "success", id).finish());
  }],
  ["sends the request back", "garbage", ({ request, send }) => send(request.bytes)],
];

for (const [name, outcome, answer] of BAD) {
  Deno.test(`A server that ${name} is told to be "${outcome}", within 7.5 s`, async () => {
    const report = await reportWith(answer, { nat: { filtering: "endpoint-independent" } });
    assertEquals(report.servers[0]!.outcome, outcome);
    assertEquals(report.tests[0]!.outcome, outcome);
    assertEquals(report.classic, outcome === "silent" ? "blocked" : "unknown");
    assertEquals([report.mapped, report.nat], [null, false]);
    assert(report.duration <= 7500, `took ${report.duration} ms`);
    assert(report.notes.some((note) => note.startsWith("stun:198.51.100.1 (198.51.100.1:3478)")), String(report.notes));
  });
}

Deno.test("A server that answers everything twice is told to, and does not confuse the report", async () => {
  const report = await reportWith(({ success, send }) => {
    send(success());
    send(success());
  });
  assertEquals(report.servers[0]!.outcome, "answered twice");
  assertEquals([report.nat, report.portAllocation], [true, "preserving"]);
});

Deno.test("Two answers to two sendings are not twice", async () => {
  const report = await reportIn({ nat: {}, link: { delay: 200 } });
  assertEquals(report.report.tests[0]!.sends, 2);
  assertEquals(report.report.servers[0]!.outcome, "answered");
});

Deno.test("Garbage before the right answer does no harm", async () => {
  const report = await reportWith(({ success, send }) => {
    send(new Uint8Array(7));
    send(success());
  });
  assertEquals([report.servers[0]!.outcome, report.nat], ["answered", true]);
});

Deno.test("A server that answers once and then never again leaves a report without the rest, within 20 s", async () => {
  const report = await reportWith(({ count, success, send }) => count === 0 ? send(success()) : undefined);
  assertEquals([report.nat, report.mapping, report.filtering, report.portAllocation], [
    true,
    "unknown",
    "unknown",
    "unknown",
  ]);
  assertEquals(report.unknown.portAllocation, "too few new mappings were answered");
  assert(report.duration < 20_000);
});

Deno.test("One good server among bad ones is enough", async () => {
  const servers = ["stun:198.51.100.2:3479", "stun:198.51.100.7", "stun:198.51.100.1"];
  const report = await reportWith(({ packet, success, send }) => {
    if (packet.socket === 1) send(success());
  }, { discover: { servers } });
  assertEquals(report.servers.map(({ outcome }) => outcome), ["silent", "silent", "answered"]);
  assertEquals(report.nat, true);
});

Deno.test("RFC 5780 §3.6: an ALG that rewrites MAPPED-ADDRESS is seen; the address is XOR-MAPPED-ADDRESS's", async () => {
  const inside = TransportAddress.parse("192.168.1.2:5000");
  const report = await reportWith(({ packet, success, send }) =>
    send(success((writer) => void writer.add(MAPPED_ADDRESS, inside).add(XOR_MAPPED_ADDRESS, packet.from)))
  );
  assertEquals([report.alg, report.nat, report.mapped?.address], [true, true, "203.0.113.1"]);
});

Deno.test("Whether there is an ALG is not known if there is one form of the address only", async () => {
  for (const attribute of [MAPPED_ADDRESS, XOR_MAPPED_ADDRESS]) {
    const report = await reportWith(({ packet, success, send }) =>
      send(success((writer) => void writer.add(attribute, packet.from)))
    );
    assertEquals([report.alg, report.unknown.alg, report.nat], [
      null,
      "the server sends its view of the address in one form only",
      true,
    ]);
  }
});

Deno.test("An OTHER-ADDRESS that can not be one is not used", async () => {
  const other = ["224.0.0.1:3478", "255.255.255.255:9", "0.0.0.0:3478", "198.51.100.2:0", "198.51.100.1:3478"];
  for (const text of [...other, "[2001:db8::1]:3478"]) {
    const report = await reportWith(({ packet, success, send }) =>
      send(success((writer) => {
        writer.add(XOR_MAPPED_ADDRESS, packet.from).add(OTHER_ADDRESS, TransportAddress.parse(text));
      }))
    );
    assertEquals(report.tests.filter(({ to }) => String(to) === text && text !== other[4]), []);
    assertEquals(report.tests.some(({ test }) => test.startsWith("filtering")), false);
  }
});

Deno.test("A dead OTHER-ADDRESS does not make a filter of a silence", async () => {
  const report = await reportWith(({ request, packet, success, send }) => {
    if (request.has(CHANGE_REQUEST)) return;
    const other = TransportAddress.parse("198.51.100.9:3479");
    send(success((writer) => void writer.add(XOR_MAPPED_ADDRESS, packet.from).add(OTHER_ADDRESS, other)));
  });
  assertEquals([report.filtering, report.unknown.filtering], [
    "unknown",
    "the answers that would tell did not come, but the server's other address is silent anyhow",
  ]);
});

Deno.test("A server that ignores CHANGE-REQUEST, or refuses it, does not make the filter look open", async () => {
  const other = TransportAddress.parse("198.51.100.2:3479");
  for (const refuses of [false, true]) {
    const report = await reportWith((answering) => {
      const { request, packet, success, send } = answering;
      if (refuses && request.has(CHANGE_REQUEST)) return error(420)(answering);
      send(success((writer) => void writer.add(XOR_MAPPED_ADDRESS, packet.from).add(OTHER_ADDRESS, other)));
    });
    assertEquals([report.filtering, report.unknown.filtering], [
      "unknown",
      "the server does not answer from elsewhere when asked to (CHANGE-REQUEST)",
    ]);
  }
});

Deno.test("RFC 5780 §3.5: a server without PADDING shows the way out only", async () => {
  for (const refuses of [false, true]) {
    const report = await reportWith((answering) => {
      if (refuses && answering.request.has(PADDING)) return error(420)(answering);
      answering.send(answering.success());
    });
    assertEquals(report.fragments, "outbound");
  }
});

Deno.test("RFC 5780 §4.6: without RESPONSE-PORT the lifetime still shows where a new mapping has another port", async () => {
  for (const refuses of [false, true]) {
    const answer = (answering: Answering) => {
      if (refuses && answering.request.has(RESPONSE_PORT)) return error(420)(answering);
      answering.send(answering.success());
    };
    const discover = { lifetime: { max: 100 } };
    const random = await reportWith(answer, { discover, nat: { portAllocation: "random", mappingLifetime: 42_000 } });
    assertEquals([random.lifetimeSeconds, random.lifetime?.method], [42, "remapping"]);
    const preserving = await reportWith(answer, { discover, nat: { mappingLifetime: 42_000 } });
    assertEquals(preserving.lifetimeSeconds, null);
    assertEquals(
      preserving.unknown.lifetime,
      refuses
        ? "the server does not answer to another port (RESPONSE-PORT: error 420), and a new mapping of this NAT looks like the old one"
        : "the server ignores the wish to answer to another port (RESPONSE-PORT), and a new mapping of this NAT looks like the old one",
    );
  }
});

Deno.test("A server behind a NAT of its own is noted", async () => {
  const { report } = await reportIn({
    listen: ["10.0.0.1", "10.0.0.2"],
    serve: undefined,
    nat: {},
    discover: { servers: ["stun:198.51.100.1"] },
    prepare(world) {
      const front = world.addNat("front", { external: ["198.51.100.1"], filtering: "endpoint-independent" });
      const host = front.addHost("hidden", { addresses: ["10.1.0.1"] });
      const server = new Server(({ packet, success, send }) =>
        send(success((writer) => {
          writer.add(XOR_MAPPED_ADDRESS, packet.from).add({ ...MAPPED_ADDRESS, type: 0x802b }, here);
        }))
      );
      const here = TransportAddress.parse("10.1.0.1:3478");
      const handle = new Driver(host).add(server);
      const { socket } = handle.bind({ transport: "udp", address: "10.1.0.1", port: 3478 });
      server.sockets.push(socket);
      // Opens the mapping, as a port forwarding would.
      handle.call((io) => io.send(socket, TransportAddress.parse("203.0.113.99:9"), new Uint8Array(1)));
    },
  });
  assertEquals(report.servers[0]!.outcome, "answered");
  assert(
    report.notes.includes(
      "The server says that it answered from 10.1.0.1:3478, but 198.51.100.1:3478 arrived: there is a NAT in front of it.",
    ),
    String(report.notes),
  );
});

Deno.test("A classic server is used by its CHANGED-ADDRESS; its silence to PADDING is none of the path's", async () => {
  const other = TransportAddress.parse("198.51.100.2:3479");
  const report = await reportWith(({ request, packet, success, send }) => {
    if (request.has(PADDING)) return;
    send(success((writer) => void writer.add(MAPPED_ADDRESS, packet.from).add(CHANGED_ADDRESS, other)));
  });
  assertEquals([report.fragments, report.unknown.fragments], [
    "unknown",
    "the server does not understand long requests (PADDING)",
  ]);
  assertEquals([report.mapping, report.servers[0]!.otherAddress], ["endpoint-independent", other]);
});

Deno.test("A server's SOFTWARE can not send commands to a terminal", async () => {
  const report = await reportWith(({ packet, success, send }) =>
    send(success((writer) => {
      writer.add(XOR_MAPPED_ADDRESS, packet.from).add(SOFTWARE, "evil\x1b]0;title\x07\u202e\x00 1.0");
    }))
  );
  assertEquals(report.servers[0]!.software, "evil]0;title 1.0");
});

Deno.test("Whatever a server makes of its answers, there is a report, after 20 s at the latest", async () => {
  const random = (seed: number) => () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
  for (let seed = 1; seed <= 300; seed++) {
    const chance = random(seed);
    const report = await reportWith(({ request, packet, success, send, after }) => {
      const other = TransportAddress.parse("198.51.100.2:3479");
      const bytes = success((writer) => {
        writer.add(XOR_MAPPED_ADDRESS, packet.from).add(MAPPED_ADDRESS, packet.from).add(OTHER_ADDRESS, other);
      });
      const { socket, from } = packet;
      for (let i = 0; chance() < 0.5; i++) bytes[Math.floor(chance() * bytes.length)] = Math.floor(chance() * 256);
      const cut = chance() < 0.1 ? bytes.slice(0, Math.floor(chance() * bytes.length)) : bytes;
      if (chance() < 0.2) return;
      if (chance() < 0.2) return after(chance() * 8000, (io) => io.send(socket, from, cut));
      send(cut, request.has(CHANGE_REQUEST) && chance() < 0.5 ? 1 : undefined);
    });
    assert(report.duration <= 20_000, `seed ${seed} took ${report.duration} ms`);
    JSON.stringify(report);
  }
});

Deno.test("A path of a second each way is still named right within 20 s", async () => {
  const { report } = await reportIn({ link: { delay: 350 }, nat: { filtering: "address-dependent" } });
  assertEquals(report.servers[0]!.rtt, 2100);
  assertEquals([report.classic, report.fragments], ["restricted cone", "pass"]);
  assert(report.duration <= 20_000);
});
