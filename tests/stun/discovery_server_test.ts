import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import {
  ERROR_CODE_ATTRIBUTE,
  MAPPED_ADDRESS,
  SOFTWARE,
  UNKNOWN_ATTRIBUTES,
  XOR_MAPPED_ADDRESS,
} from "../../stun/attributes.ts";
import {
  CHANGE_REQUEST,
  CHANGED_ADDRESS,
  OTHER_ADDRESS,
  PADDING,
  RESPONSE_ADDRESS,
  RESPONSE_ORIGIN,
  RESPONSE_PORT,
  SOURCE_ADDRESS,
} from "../../stun/discovery_attributes.ts";
import { DiscoveryServer, type DiscoveryServerOptions } from "../../stun/discovery_server.ts";
import type { MachineIo } from "../../stun/machine.ts";
import { type MessageClass, MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";

const A1P1 = TransportAddress.parse("192.0.2.1:3478");
const A1P2 = TransportAddress.parse("192.0.2.1:3479");
const A2P1 = TransportAddress.parse("192.0.2.2:3478");
const A2P2 = TransportAddress.parse("192.0.2.2:3479");
const ALL = [A1P1, A1P2, A2P1, A2P2];
const CLIENT = TransportAddress.parse("203.0.113.9:40000");

/** A server with these sockets (their numbers are the places), and what it sent. */
class Rig {
  readonly server: DiscoveryServer;
  readonly sent: { from: number; to: string; message: StunMessage; size: number }[] = [];
  readonly #io: MachineIo;

  constructor(addresses: readonly TransportAddress[], options?: DiscoveryServerOptions) {
    this.server = new DiscoveryServer(options);
    for (const [socket, address] of addresses.entries()) this.server.addSocket(socket, address);
    this.#io = {
      now: 0,
      unixTime: 946_684_800,
      random: { fill() {} },
      scratch: (size) => new Uint8Array(size),
      send: (from, to, bytes, offset = 0, length = bytes.length - offset) => {
        const copy = bytes.slice(offset, offset + length);
        this.sent.push({ from, to: String(to), message: StunMessage.parse(copy, { classic: true })!, size: length });
      },
      open: () => -1,
      close() {},
      deliver() {},
      emit() {},
    };
  }

  receive(socket: number, bytes: Uint8Array, from = CLIENT): this {
    const packet = { socket, from, buffer: bytes, offset: 0, length: bytes.length, bytes };
    this.server.handlePacket(packet, this.#io);
    return this;
  }
}

function request(
  write: (writer: MessageWriter) => void = () => {},
  { isClassic = false, messageClass = "request" as MessageClass, method = METHOD.BINDING as number } = {},
): Uint8Array {
  const id = new Uint8Array(isClassic ? 16 : 12).fill(7);
  const writer = new MessageWriter(new Uint8Array(4096)).begin(method, messageClass, id);
  write(writer);
  return writer.finish();
}

function change(changeIp: boolean, changePort: boolean): (writer: MessageWriter) => void {
  return (writer) => writer.add(CHANGE_REQUEST, { changeIp, changePort });
}

Deno.test("RFC 5780 §6.1: every answer has both mapped addresses, RESPONSE-ORIGIN and OTHER-ADDRESS", () => {
  for (const [socket, address] of ALL.entries()) {
    const { sent } = new Rig(ALL).receive(socket, request());
    assertEquals(sent.length, 1);
    const [{ from, to, message }] = sent as [typeof sent[0]];
    assertEquals([from, to, message.class], [socket, "203.0.113.9:40000", "success"]);
    assertEquals(String(message.get(XOR_MAPPED_ADDRESS)), "203.0.113.9:40000");
    assertEquals(String(message.get(MAPPED_ADDRESS)), "203.0.113.9:40000");
    assertEquals(String(message.get(RESPONSE_ORIGIN)), String(address));
    assertEquals(String(message.get(OTHER_ADDRESS)), String(ALL[3 - socket]));
    assertEquals(message.get(SOFTWARE), undefined);
  }
});

Deno.test("RFC 5780 §6.1 table 1: CHANGE-REQUEST picks the socket that answers, from wherever it was asked", () => {
  // By place: 1 changes the port, 2 the address.
  for (const arrived of [0, 1, 2, 3]) {
    for (const flip of [0, 1, 2, 3]) {
      const { sent } = new Rig(ALL).receive(arrived, request(change((flip & 2) !== 0, (flip & 1) !== 0)));
      const [{ from, to, message }] = sent as [typeof sent[0]];
      assertEquals(from, arrived ^ flip);
      assertEquals(to, "203.0.113.9:40000");
      assertEquals(String(message.get(RESPONSE_ORIGIN)), String(ALL[arrived ^ flip]));
      assertEquals(String(message.get(OTHER_ADDRESS)), String(ALL[arrived ^ 3]));
    }
  }
});

Deno.test("RFC 5780 §6: with one address, or not the same ports on two, no OTHER-ADDRESS and 420 to CHANGE-REQUEST", () => {
  for (const addresses of [[A1P1], [A1P1, A1P2], [A1P1, A2P2], [A1P1, A2P1], [A1P1, A1P2, A2P1]]) {
    const { server, sent } = new Rig(addresses).receive(0, request()).receive(0, request(change(false, false)));
    assertEquals(server.hasAlternate, false);
    assertEquals(sent[0]!.message.get(OTHER_ADDRESS), undefined);
    assertEquals(String(sent[0]!.message.get(RESPONSE_ORIGIN)), "192.0.2.1:3478");
    assertEquals(sent[1]!.message.get(ERROR_CODE_ATTRIBUTE)?.code, 420);
    assertEquals(sent[1]!.message.get(UNKNOWN_ATTRIBUTES), [0x0003]);
  }
});

Deno.test("RFC 5780 §6: a socket that comes or goes changes what the others offer", () => {
  const { server } = new Rig([A1P1, A1P2, A2P1]);
  assertEquals(server.hasAlternate, false);
  server.addSocket(3, A2P2);
  assertEquals(ALL.map((address) => server.hasAlternateFor(address)), [true, true, true, true]);
  server.removeSocket(1);
  assertEquals(ALL.map((address) => server.hasAlternateFor(address)), [false, false, false, false]);
});

Deno.test("RFC 5780 §6: IPv4 and IPv6 sockets are no alternates of each other", () => {
  const six = ["[2001:db8::1]:3478", "[2001:db8::1]:3479", "[2001:db8::2]:3478", "[2001:db8::2]:3479"]
    .map((text) => TransportAddress.parse(text));
  const mixed = new Rig([A1P1, A1P2, six[0]!, six[1]!]);
  assertEquals(mixed.server.hasAlternate, false);
  const { sent } = new Rig([...ALL, ...six]).receive(4, request(change(true, true)), TransportAddress.parse("[::5]:9"));
  assertEquals(sent[0]!.from, 7);
  assertEquals(String(sent[0]!.message.get(OTHER_ADDRESS)), "[2001:db8::2]:3479");
});

Deno.test("RFC 5780 §6: behind a 1:1 NAT the advertised addresses are told", () => {
  const server = new DiscoveryServer();
  const inside = ["10.0.0.1:3478", "10.0.0.1:3479", "10.0.0.2:3478", "10.0.0.2:3479"];
  for (const [i, text] of inside.entries()) server.addSocket(i, TransportAddress.parse(text), ALL[i]);
  const rig = new Rig([]);
  Object.assign(rig, { server });
  const { sent } = rig.receive(0, request(change(false, true)));
  assertEquals(sent[0]!.from, 1);
  assertEquals(String(sent[0]!.message.get(RESPONSE_ORIGIN)), "192.0.2.1:3479");
  assertEquals(String(sent[0]!.message.get(OTHER_ADDRESS)), "192.0.2.2:3479");
});

Deno.test("RFC 5780 §7.5: RESPONSE-PORT sends the answer to that port of the same address", () => {
  const { sent } = new Rig([A1P1]).receive(0, request((writer) => writer.add(RESPONSE_PORT, 40001)));
  assertEquals(sent[0]!.to, "203.0.113.9:40001");
  assertEquals(String(sent[0]!.message.get(XOR_MAPPED_ADDRESS)), "203.0.113.9:40000");
});

Deno.test("RFC 5780 §6.1: RESPONSE-PORT with PADDING gets 400, to the port that asked", () => {
  const { sent } = new Rig(ALL).receive(
    0,
    request((writer) => writer.add(RESPONSE_PORT, 40001).add(PADDING, new Uint8Array(8))),
  );
  assertEquals(sent[0]!.to, "203.0.113.9:40000");
  assertEquals(sent[0]!.message.get(ERROR_CODE_ATTRIBUTE)?.code, 400);
});

Deno.test("RFC 5780 §7.5: RESPONSE-PORT 0 and malformed attributes get 400", () => {
  const malformed = [
    (writer: MessageWriter) => writer.add(RESPONSE_PORT, 0),
    (writer: MessageWriter) => writer.add({ ...PADDING, type: RESPONSE_PORT.type }, new Uint8Array(8)),
    (writer: MessageWriter) => writer.add({ ...PADDING, type: CHANGE_REQUEST.type }, new Uint8Array(8)),
  ];
  for (const write of malformed) {
    const { sent } = new Rig(ALL).receive(0, request((writer) => void write(writer)));
    assertEquals(sent.map(({ to, message }) => [to, message.get(ERROR_CODE_ATTRIBUTE)?.code]), [[
      "203.0.113.9:40000",
      400,
    ]]);
  }
});

Deno.test("RFC 5780 §10: PADDING is answered with as much, never more, and with one frame's worth at most", () => {
  for (const [asked, answered] of [[0, 0], [4, 4], [100, 100], [1500, 1500], [3000, 1500]] as const) {
    const bytes = request((writer) => writer.add(PADDING, new Uint8Array(asked)));
    const { sent } = new Rig(ALL).receive(0, bytes);
    assertEquals(sent[0]!.message.get(PADDING)?.length, answered);
  }
});

Deno.test("RFC 5780 §10: an answer is at most 48 bytes longer than its request", () => {
  const writes = [
    () => {},
    change(true, true),
    (writer: MessageWriter) => void writer.add(RESPONSE_PORT, 9),
    (writer: MessageWriter) => void writer.add(PADDING, new Uint8Array(1)),
    (writer: MessageWriter) => void writer.add({ ...PADDING, type: 0x0002 }, new Uint8Array(0)),
    (writer: MessageWriter) => {
      for (let i = 0; i < 200; i++) writer.add({ ...PADDING, type: 0x1000 + i }, new Uint8Array(0));
    },
  ];
  for (const write of writes) {
    const bytes = request(write);
    const { sent } = new Rig(ALL).receive(0, bytes);
    assertEquals(sent.length, 1);
    assertEquals(sent[0]!.size - bytes.length <= 48, true, `${bytes.length} bytes got ${sent[0]!.size}`);
  }
});

Deno.test("RFC 8489 §6.3.1: unknown comprehension-required attributes get 420 with their list", () => {
  const write = (writer: MessageWriter) =>
    writer.add({ ...PADDING, type: 0x7001 }, new Uint8Array(0)).add({ ...PADDING, type: 0xc001 }, new Uint8Array(0));
  const { sent } = new Rig(ALL).receive(2, request((writer) => void write(writer)));
  assertEquals([sent[0]!.from, sent[0]!.message.class], [2, "error"]);
  assertEquals(sent[0]!.message.get(UNKNOWN_ATTRIBUTES), [0x7001]);
});

Deno.test("RFC 8489 §6.3: what is no Binding request gets no answer", () => {
  const rig = new Rig(ALL)
    .receive(0, request(undefined, { messageClass: "indication" }))
    .receive(0, request(undefined, { messageClass: "success" }))
    .receive(0, request(undefined, { messageClass: "error" }))
    .receive(0, request(undefined, { method: METHOD.ALLOCATE }))
    .receive(0, request(undefined, { isClassic: true }))
    .receive(0, new Uint8Array([1, 2, 3]))
    .receive(0, new Uint8Array(0))
    .receive(0, request(), TransportAddress.parse("203.0.113.9:0"));
  assertEquals(rig.sent, []);
  assertEquals(rig.server.counters, { requests: 0, successes: 0, errors: 0, dropped: 8 });
});

Deno.test("RFC 8489 §7: FINGERPRINT is answered with FINGERPRINT, a wrong one with nothing", () => {
  const bytes = request((writer) => writer.addFingerprint());
  const { sent } = new Rig(ALL).receive(0, bytes);
  assertEquals(sent[0]!.message.verifyFingerprint(), true);
  bytes[bytes.length - 1]! ^= 1;
  assertEquals(new Rig(ALL).receive(0, bytes).sent, []);
});

Deno.test("RFC 5780 off: its attributes are unknown, and answers carry none", () => {
  const plain = new Rig(ALL, { discovery: false, software: "natkit" });
  plain.receive(0, request())
    .receive(0, request(change(true, true)))
    .receive(0, request((writer) => writer.add(PADDING, new Uint8Array(4))))
    .receive(0, request((writer) => writer.add(RESPONSE_PORT, 9)));
  assertEquals(plain.sent[0]!.message.has(OTHER_ADDRESS), false);
  assertEquals(plain.sent[0]!.message.get(SOFTWARE), "natkit");
  assertEquals(plain.sent.slice(1).map(({ message }) => message.get(UNKNOWN_ATTRIBUTES)), [[3], [0x26], [0x27]]);
});

Deno.test("RFC 3489 §8.1: a classic request gets MAPPED-, SOURCE- and CHANGED-ADDRESS from the socket it wants", () => {
  for (const flip of [0, 1, 2, 3]) {
    const write = change((flip & 2) !== 0, (flip & 1) !== 0);
    const { sent } = new Rig(ALL, { classic: true }).receive(0, request(write, { isClassic: true }));
    const [{ from, message }] = sent as [typeof sent[0]];
    assertEquals([from, message.class, message.hasCookie], [flip, "success", false]);
    assertEquals(message.attributeTypes(), [MAPPED_ADDRESS.type, SOURCE_ADDRESS.type, CHANGED_ADDRESS.type]);
    assertEquals(String(message.get(MAPPED_ADDRESS)), "203.0.113.9:40000");
    assertEquals(String(message.get(SOURCE_ADDRESS)), String(ALL[flip]));
    assertEquals(String(message.get(CHANGED_ADDRESS)), "192.0.2.2:3479");
    assertEquals(message.bytes.slice(4, 20), new Uint8Array(16).fill(7));
  }
});

Deno.test("RFC 3489 §11.2.2: RESPONSE-ADDRESS, which aims the server at others, gets 420 with an even list", () => {
  const write = (writer: MessageWriter) => void writer.add(RESPONSE_ADDRESS, TransportAddress.parse("198.51.100.5:53"));
  const { sent } = new Rig(ALL, { classic: true }).receive(0, request(write, { isClassic: true }));
  assertEquals(sent.length, 1);
  assertEquals(sent[0]!.to, "203.0.113.9:40000");
  assertEquals(sent[0]!.message.get(ERROR_CODE_ATTRIBUTE)?.code, 420);
  assertEquals(sent[0]!.message.get(UNKNOWN_ATTRIBUTES), [RESPONSE_ADDRESS.type, RESPONSE_ADDRESS.type]);
});

Deno.test("RFC 3489 §8.1: with one address a classic CHANGE-REQUEST for no change is fine, one for a change gets 420", () => {
  const rig = new Rig([A1P1], { classic: true })
    .receive(0, request(change(false, false), { isClassic: true }))
    .receive(0, request(change(true, false), { isClassic: true }));
  assertEquals(rig.sent.map(({ message }) => message.class), ["success", "error"]);
});

Deno.test("A socket bound to all addresses names no origin and has no alternate", () => {
  const any = ["0.0.0.0:3478", "0.0.0.0:3479"].map((text) => TransportAddress.parse(text));
  const { sent } = new Rig([...any, A2P1, A2P2]).receive(0, request()).receive(0, request(change(true, true)));
  assertEquals(sent[0]!.message.attributeTypes(), [XOR_MAPPED_ADDRESS.type, MAPPED_ADDRESS.type]);
  assertEquals(sent[1]!.message.get(ERROR_CODE_ATTRIBUTE)?.code, 420);
});
