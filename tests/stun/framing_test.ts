import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { framePadding, MAX_FRAME, StreamFramer } from "../../stun/framing.ts";

/** A STUN message with `size` bytes of attributes, all of them `fill`. */
function stun(size: number, fill = 0xab): Uint8Array {
  const bytes = new Uint8Array(20 + size).fill(fill);
  bytes.set([0x00, 0x01, size >> 8, size & 0xff, 0x21, 0x12, 0xa4, 0x42]);
  return bytes;
}

/** A ChannelData message with `size` bytes of data, without padding. */
function channelData(size: number, fill = 0xcd, channel = 0x4001): Uint8Array {
  const bytes = new Uint8Array(4 + size).fill(fill);
  bytes.set([channel >> 8, channel & 0xff, size >> 8, size & 0xff]);
  return bytes;
}

/** The frames as they go over a stream. */
function stream(frames: readonly Uint8Array[]): Uint8Array {
  const bytes: number[] = [];
  for (const frame of frames) bytes.push(...frame, ...new Uint8Array(framePadding(frame.length)));
  return Uint8Array.from(bytes);
}

/** Pushes the chunks and gives copies of the frames that come out. */
function frames(framer: StreamFramer, chunks: readonly Uint8Array[]): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (const chunk of chunks) {
    framer.push(chunk);
    while (framer.next()) found.push(framer.buffer.slice(framer.offset, framer.offset + framer.length));
  }
  return found;
}

/** Cuts `bytes` at the given places, of any order and number. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const edges = [0, ...places.map((place) => place % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  return edges.slice(1).map((edge, i) => bytes.slice(edges[i], edge));
}

const anyFrame = fc.oneof(
  fc.tuple(fc.nat(40), fc.nat(255)).map(([words, fill]) => stun(4 * words, fill)),
  fc.tuple(fc.nat(300), fc.nat(255), fc.integer({ min: 0x4000, max: 0x7fff }))
    .map(([size, fill, channel]) => channelData(size, fill, channel)),
);

Deno.test("RFC 8656 §12.5: any cutting of a stream gives the same frames", () => {
  fc.assert(fc.property(fc.array(anyFrame, { maxLength: 12 }), fc.array(fc.nat()), (rest, places) => {
    const sent = [stun(0), ...rest];
    const framer = new StreamFramer();
    assertEquals(frames(framer, cut(stream(sent), places)), sent);
    assertEquals([framer.isMalformed, framer.buffered, framer.frames], [false, 0, sent.length]);
  }));
});

Deno.test("RFC 8656 §12.5: byte by byte, largest frames", () => {
  const sent = [stun(65532), channelData(65535), channelData(0), stun(8)];
  assertEquals(stream([sent[0]!]).length, MAX_FRAME);
  const framer = new StreamFramer();
  const found = frames(framer, cut(stream(sent), Array.from({ length: 131200 }, (_, i) => i)));
  assertEquals(found.map((frame) => frame.length), sent.map((frame) => frame.length));
  assertEquals(found[1], sent[1]);
});

Deno.test("Frames that arrive whole are views, a frame cut through is not overwritten by the rest of the same piece", () => {
  const bytes = stream([stun(8), channelData(5), channelData(9)]);
  const framer = new StreamFramer();
  framer.push(bytes.subarray(0, 3));
  assertEquals(framer.next(), false);
  const chunk = bytes.slice(3, 28 + 12 + 6);
  framer.push(chunk);
  assertEquals(framer.next(), true);
  const [buffer, offset, length] = [framer.buffer, framer.offset, framer.length];
  assertEquals(framer.next(), true);
  assertEquals(framer.buffer, chunk);
  assertEquals(framer.next(), false);
  assertEquals(framer.buffered, 6);
  assertEquals(buffer.subarray(offset, offset + length), stun(8));
});

Deno.test("T36: garbage ends a stream for good, wherever it stands and however it is cut", () => {
  const wrongCookie = stun(4);
  wrongCookie[7] = 0x43;
  const oddLength = stun(4);
  oddLength[3] = 5;
  const garbage = [
    new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"),
    Uint8Array.of(0x16, 0x03, 0x01, 0x02, 0x00),
    Uint8Array.of(0x80, 0x00, 0x00, 0x00),
    Uint8Array.of(0xff, 0x00, 0x00, 0x00),
    Uint8Array.of(0x04, 0, 0, 0),
    wrongCookie,
    oddLength,
    channelData(4),
  ];
  for (const bytes of garbage) {
    for (const step of [1, 3, 100]) {
      const framer = new StreamFramer();
      const chunks = cut(bytes, Array.from({ length: Math.ceil(bytes.length / step) }, (_, i) => i * step));
      assertEquals(frames(framer, [...chunks, stun(0)]), []);
      assertEquals([framer.isMalformed, framer.buffered], [true, 0], String(bytes));
    }
  }
  // ChannelData is good after a first STUN message, and a bad frame in between gives up all that follows.
  const framer = new StreamFramer();
  assertEquals(frames(framer, [stream([stun(0), channelData(4), wrongCookie, stun(0)])]), [stun(0), channelData(4)]);
  assertEquals(framer.isMalformed, true);
});

Deno.test("T36: what is kept of an unfinished frame is what arrived, never what it claims", () => {
  const framer = new StreamFramer();
  assertEquals(frames(framer, [stun(65532).subarray(0, 100)]), []);
  assertEquals(framer.buffered, 100);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), fc.array(fc.nat()), (bytes, places) => {
    const framer = new StreamFramer();
    let arrived = 0;
    for (const chunk of cut(stream([stun(0), bytes]), places)) {
      arrived += chunk.length;
      frames(framer, [chunk]);
      if (framer.buffered > arrived) throw new Error("kept more than arrived");
    }
  }));
});

Deno.test("The rest of a stream that is not frames is handed out once, cut anywhere", () => {
  const tail = Uint8Array.from({ length: 50 }, (_, i) => i + 100);
  fc.assert(fc.property(fc.nat(70), (place) => {
    const bytes = Uint8Array.from([...stun(0), ...tail]);
    const framer = new StreamFramer();
    const rest: number[] = [];
    for (const chunk of cut(bytes, [place])) {
      framer.push(chunk);
      if (framer.frames === 0 && !framer.next()) continue;
      rest.push(...framer.takeRest());
    }
    assertEquals(Uint8Array.from(rest), tail);
  }));
});

/** Packets with their length in front. */
function prefixed(packets: readonly Uint8Array[]): Uint8Array {
  const bytes: number[] = [];
  for (const packet of packets) bytes.push(packet.length >> 8, packet.length & 0xff, ...packet);
  return Uint8Array.from(bytes);
}

Deno.test("RFC 4571 §2: packets with their length in front, however the stream is cut; those without a byte are ignored", () => {
  const anyPacket = fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.constant(new Uint8Array(0)));
  fc.assert(fc.property(fc.array(anyPacket, { maxLength: 12 }), fc.array(fc.nat()), (rest, places) => {
    const nothing = new Uint8Array(0);
    const sent = [nothing, stun(8), ...rest];
    const framer = new StreamFramer("rfc4571");
    const expected = sent.filter(({ length }) => length > 0);
    assertEquals(frames(framer, cut(prefixed(sent), places)), expected);
    assertEquals([framer.isMalformed, framer.buffered, framer.frames], [false, 0, expected.length]);
  }));
});

Deno.test("RFC 4571 §2: byte by byte, the largest packets", () => {
  const sent = [stun(0), new Uint8Array(65535).fill(0xff), Uint8Array.of(0x47)];
  const framer = new StreamFramer("rfc4571");
  assertEquals(frames(framer, cut(prefixed(sent), [...prefixed(sent).keys()])), sent);
});

Deno.test("RFC 6544 §7, I36: a connection whose first packet is no STUN message is told by the first bytes that show it", () => {
  const cases: [string, Uint8Array][] = [
    ["HTTP", new TextEncoder().encode("GE")],
    ["TLS", Uint8Array.of(0x16, 0x03)],
    ["too short for STUN", Uint8Array.of(0, 19)],
    ["too long for a check", Uint8Array.of(0x08, 0x01)],
    ["data", Uint8Array.of(0, 20, 0x80)],
    ["another cookie", Uint8Array.of(0, 20, 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x43)],
  ];
  for (const [name, bytes] of cases) {
    for (const chunks of [[bytes], [...bytes].map((byte) => Uint8Array.of(byte))]) {
      const framer = new StreamFramer("rfc4571");
      assertEquals(frames(framer, chunks.slice(0, -1)), [], name);
      assertEquals(framer.isMalformed, false, name);
      framer.push(chunks.at(-1)!);
      assertEquals([framer.next(), framer.isMalformed, framer.buffered], [false, true, 0], name);
    }
  }
});
