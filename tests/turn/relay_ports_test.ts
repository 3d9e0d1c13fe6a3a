import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { type PortNeed, RelayPorts } from "../../turn/relay_ports.ts";
import { seededRandom } from "../_recorder.ts";

const ADDRESS = { address: "192.0.2.1" };

Deno.test("RFC 8656 §7.2: ports are from 49152 to 65535 by default, and from all of that", () => {
  const ports = new RelayPorts(ADDRESS);
  const random = seededRandom(7);
  const taken = Array.from({ length: 1000 }, () => ports.take("any", random));
  assertEquals(new Set(taken).size, 1000);
  assert(Math.min(...taken) >= 49152 && Math.max(...taken) <= 65535);
  const quarters = [0, 0, 0, 0];
  for (const port of taken) quarters[(port - 49152) >> 12]!++;
  assert(quarters.every((count) => count > 200 && count < 300), `RFC 6056 §3: ${quarters}`);
});

Deno.test("RFC 8656 §7.2: all ports are found, odd and even and in pairs, and then none", () => {
  const random = seededRandom(8);
  for (const [need, count] of [["any", 11], ["even", 5], ["pair", 5]] as const) {
    const ports = new RelayPorts(ADDRESS, { min: 50001, max: 50011 });
    const taken = Array.from({ length: count }, () => ports.take(need, random)).sort();
    assert(taken.every((port) => port >= 50001 && port <= 50011));
    if (need !== "any") assertEquals(taken, [50002, 50004, 50006, 50008, 50010]);
    assertEquals(ports.take(need, random), -1);
    assertEquals(ports.used, need === "even" ? 5 : need === "pair" ? 10 : 11);
  }
});

Deno.test("A port that was given back can be taken again; giving back twice changes nothing", () => {
  const ports = new RelayPorts(ADDRESS, { min: 50000, max: 50000 });
  assertEquals(ports.take("any", seededRandom(1)), 50000);
  assertEquals(ports.take("any", seededRandom(1)), -1);
  ports.release(50000);
  ports.release(50000);
  ports.release(49999);
  assertEquals([ports.used, ports.take("any", seededRandom(1))], [0, 50000]);
});

Deno.test("Whatever is taken and given back, no port is given out twice and the count is right", () => {
  const need = fc.constantFrom<PortNeed>("any", "even", "pair");
  const step = fc.oneof(need.map((need) => ({ need })), fc.nat(30).map((give) => ({ give })));
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), fc.nat(), (steps, seed) => {
    const ports = new RelayPorts(ADDRESS, { min: 50000, max: 50020 });
    const random = seededRandom(seed);
    const held = new Set<number>();
    for (const step of steps) {
      if ("give" in step) {
        const port = [...held][step.give % Math.max(1, held.size)];
        if (port === undefined) continue;
        held.delete(port);
        ports.release(port);
      } else {
        const port = ports.take(step.need, random);
        if (port === -1) continue;
        const got = step.need === "pair" ? [port, port + 1] : [port];
        for (const one of got) assert(!held.has(one) && one >= 50000 && one <= 50020);
        assert(step.need === "any" || port % 2 === 0);
        got.forEach((one) => held.add(one));
      }
      assertEquals(ports.used, held.size);
    }
  }));
});

Deno.test("Ranges that are none, and addresses of two families, are refused", () => {
  for (const [min, max] of [[0, 10], [10, 9], [1, 65536], [1.5, 3]] as const) {
    assertThrows(() => new RelayPorts(ADDRESS, { min, max }), RangeError, "relay ports");
  }
  assertThrows(() => new RelayPorts({ address: "localhost" }), SyntaxError);
  assertThrows(() => new RelayPorts({ address: "192.0.2.1", external: "2001:db8::1" }), RangeError, "both must be");
});
