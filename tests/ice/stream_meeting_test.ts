// Connections with several data streams and components, through NATs in the virtual internet.
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { IceConnection } from "../../ice/connection.ts";
import { openIce } from "../../ice/connect.ts";
import { IceError } from "../../ice/error.ts";
import { parseDescription } from "../../ice/sdp.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { meet } from "./meeting.ts";

const STREAMS = [{ components: 2, mid: "audio" }, { mid: "data" }];

/** Each component says its name; what every component of the other side has heard. */
async function talk(from: IceConnection, to: IceConnection): Promise<string[]> {
  const all = (connection: IceConnection) => connection.streams.flatMap(({ components }) => components);
  for (const { stream, component, send: _ } of all(from)) {
    from.stream(stream).component(component).send(new TextEncoder().encode(`${stream}.${component}`));
  }
  return await Promise.all(
    all(to).map(async (one) => {
      const { value } = await one[Symbol.asyncIterator]().next();
      return `${one.stream}.${one.component} heard ${new TextDecoder().decode(value)}`;
    }),
  );
}

const HEARD = ["0.1 heard 0.1", "0.2 heard 0.2", "1.1 heard 1.1"];

for (const signaling of ["one-shot", "trickle"] as const) {
  Deno.test(`Streams and components between NATs, ${signaling}: each has a path of its own, and its own data`, async () => {
    const side = { streams: STREAMS, type: "port restricted cone" } as const;
    await meet({ a: side, b: side, signaling }, async (meeting) => {
      const { a, b, world, server } = meeting;
      await meeting.exchange();
      await Promise.all([a.connection.nominated, b.connection.nominated]);
      await world.sleep(1000);
      for (const { connection } of [a, b]) {
        assertEquals([connection.state, connection.streams.map(({ state }) => state)], ["completed", [
          ...["completed", "completed"],
        ]]);
        const pairs = connection.streams.flatMap(({ components }) =>
          components.map(({ selectedPair }) => selectedPair!)
        );
        assertEquals(new Set(pairs.map(({ base }) => base.socket)).size, 3);
        assertEquals(pairs.map(({ local, remote }) => `${local.type} ${remote.type}`), Array(3).fill("srflx srflx"));
      }
      assertEquals(await talk(a.connection, b.connection), HEARD);
      assertEquals(await talk(b.connection, a.connection), HEARD);
      await world.sleep(10_000);
      // A relay of one side is kept for each component, to take over.
      assertEquals(server.stats().allocations, 3);
    });
  });
}

Deno.test("RFC 8445 §9: all streams are restarted together, and go on without a gap", async () => {
  const side = { streams: STREAMS, type: "full cone" } as const;
  await meet({ a: side, b: side }, async (meeting) => {
    const { a, b, world } = meeting;
    await meeting.exchange();
    await Promise.all([a.connection.nominated, b.connection.nominated]);
    const again = a.connection.restart("sdp");
    assertEquals(await talk(a.connection, b.connection), HEARD);
    b.connection.addRemoteDescription(await again);
    a.connection.addRemoteDescription(await b.connection.localDescription("sdp"));
    assertEquals(await talk(b.connection, a.connection), HEARD);
    await world.sleep(10_000);
    assertEquals([a.connection.state, b.connection.state], ["completed", "completed"]);
    assertEquals(await talk(a.connection, b.connection), HEARD);
  });
});

Deno.test("Streams: the description names them, and onDatagram tells the component", async () => {
  const world = new VirtualWorld({ link: { delay: 5 } });
  const hosts = [1, 2].map((i) => world.addHost(`h${i}`, { addresses: [`203.0.113.${i}`] }));
  await world.run(async () => {
    const heard: string[] = [];
    await using a = openIce({ host: hosts[0]!, streams: STREAMS, bind: ["203.0.113.1:5000"] });
    await using b = openIce({
      ...{ host: hosts[1]!, streams: STREAMS, role: "controlled" },
      onDatagram: (bytes, { stream, component }) => void heard.push(`${stream}.${component} ${bytes[0]}`),
    });
    const description = parseDescription(await a.localDescription("sdp"));
    const ports = description.streams!.map((
      { mid, candidates },
    ) => [mid, candidates.map(({ address }) => address!.port)]);
    assertEquals(ports, [["audio", [5000, 9, 5001, 9]], ["data", [5002, 9]]]);
    b.addRemoteDescription(description);
    a.addRemoteDescription(await b.localDescription());
    await a.nominated;
    a.send(new Uint8Array([1]));
    a.stream("audio").component(2).send(new Uint8Array([2]));
    a.stream("data").component(1).send(new Uint8Array([3]));
    await world.sleep(100);
    assertEquals(heard, ["0.1 1", "0.2 2", "1.1 3"]);
    assertThrows(() => a.stream("video"), RangeError, "Cannot get stream video as there are 2");
    assertThrows(() => a.stream(0).component(3), RangeError, "Cannot get component 3 as stream 0 has 2");
  });
});

Deno.test("RFC 8839 §4.3.1: a stream that the peer rejects is gone; the others go on", async () => {
  const world = new VirtualWorld({ link: { delay: 5 } });
  const hosts = [1, 2].map((i) => world.addHost(`h${i}`, { addresses: [`203.0.113.${i}`] }));
  await world.run(async () => {
    await using a = openIce({ host: hosts[0]!, streams: STREAMS });
    await using b = openIce({ host: hosts[1]!, role: "controlled", streams: [{ components: 2, mid: "audio" }] });
    b.addRemoteDescription(await a.localDescription("sdp"));
    const { parameters, candidates } = parseDescription(await b.localDescription());
    a.addRemoteDescription({
      ...{ parameters: parameters!, candidates: [], endOfCandidates: true, ignored: [] },
      streams: [
        { mid: "audio", candidates, endOfCandidates: true },
        { mid: "data", isRejected: true, candidates: [], endOfCandidates: true },
      ],
    });
    await Promise.all([a.nominated, b.nominated]);
    await world.sleep(100);
    assertEquals([a.state, a.stream("data").component(1).state], ["completed", "closed"]);
    assertEquals(a.stream("data").component(1).send(new Uint8Array([1])), false);
  });
});

Deno.test("RFC 8445 §7.2.5.4: a stream without a path fails the connection, unless the program goes on without it", async () => {
  const world = new VirtualWorld({ link: { delay: 5 } });
  const hosts = [1, 2].map((i) => world.addHost(`h${i}`, { addresses: [`203.0.113.${i}`] }));
  await world.run(async () => {
    for (const isRemoved of [false, true]) {
      await using a = openIce({ host: hosts[0]!, streams: STREAMS, bind: ["203.0.113.1:6000"], tcp: "none" });
      await using b = openIce({ host: hosts[1]!, streams: STREAMS, role: "controlled", tcp: "none" });
      // Nothing gets through from the port of the second stream.
      hosts[0]!.link.set({ drop: ({ source, destination }) => source.port === 6002 || destination.port === 6002 });
      b.addRemoteDescription(await a.localDescription());
      a.addRemoteDescription(await b.localDescription());
      if (isRemoved) {
        await world.sleep(10_000);
        for (const side of [a, b]) side.stream("data").remove();
        await Promise.all([a.nominated, b.nominated]);
        assertEquals([a.state, b.state], ["completed", "completed"]);
      } else {
        await assertRejects(() => a.nominated, IceError);
        assertEquals(a.streams.map(({ state }) => state), ["completed", "failed"]);
      }
    }
  });
});
