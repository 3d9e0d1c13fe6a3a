import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../../stun/address.ts";
import { HEADROOM } from "../../../stun/net/transport.ts";
import { A, B, Marker, Probe, scene, send } from "./_probe.ts";

const decoder = new TextDecoder();

Deno.test("Driver: a machine on a tunnel sends and gets datagrams through it, and tunnels stack", () => {
  const { world, driver, peer } = scene();
  const outer = new Marker("o");
  const inner = new Marker("i");
  const top = new Probe();
  const [lowest, middle, upper] = [driver.add(outer), driver.add(inner), driver.add(top)];
  outer.below = {
    socket: lowest.bind({ transport: "udp", address: A, port: 1001 }).socket,
    to: TransportAddress.parse(`${B}:2000`),
  };
  inner.below = { socket: middle.stackOn(lowest), to: TransportAddress.parse("203.0.113.1:1") };
  const socket = upper.stackOn(middle);
  upper.call((io) => send(io, socket, "down", TransportAddress.parse("203.0.113.2:2")));
  world.runUntilIdle();
  assertEquals(peer.got, [`${A}:1001 oidown`]);
  assertEquals([inner.log, outer.log], [["0 down to 203.0.113.2:2"], ["0 down to 203.0.113.1:1"]]);

  top.onPacket = (_text, packet, io) => {
    // Headroom has come along: what arrived at offset 4 has two marks of its own in front now.
    assertEquals(packet.offset, HEADROOM + 2);
    io.send(packet.socket, packet.from, packet.buffer, packet.offset, packet.length);
  };
  peer.send(`${A}:1001`, "oiup");
  world.runUntilIdle();
  assertEquals(top.log, [`4 socket ${socket}: ${B}:2000 up`]);
  assertEquals(peer.got.at(-1), `${A}:1001 oiup`);
});

Deno.test("Driver: deadlines that a tunnel sets as it carries are kept, as are those of the machine above", () => {
  const { world, driver } = scene();
  const tunnel = new Marker("t");
  const top = new Probe();
  const lower = driver.add(tunnel);
  const upper = driver.add(top);
  tunnel.below = {
    socket: lower.bind({ transport: "udp", address: A, port: 1001 }).socket,
    to: TransportAddress.parse(`${B}:2000`),
  };
  const socket = upper.stackOn(lower);
  upper.call((io) => {
    top.deadline = 20;
    tunnel.deadline = 10; // as if by what it was given to carry
    send(io, socket, "x");
  });
  world.runUntilIdle();
  assertEquals([tunnel.log.at(-1), top.log.at(-1)], ["10 timeout", "20 timeout"]);
});

Deno.test("Driver: an upper socket that is closed is cut off, its tunnel delivers to the shell again", () => {
  const { world, driver, peer } = scene();
  const tunnel = new Marker("t");
  const heard: string[] = [];
  const lower = driver.add(tunnel, { onDeliver: (_from, bytes) => heard.push(decoder.decode(bytes)) });
  tunnel.below = {
    socket: lower.bind({ transport: "udp", address: A, port: 1001 }).socket,
    to: TransportAddress.parse(`${B}:2000`),
  };
  const top = new Probe();
  const upper = driver.add(top);
  const socket = upper.stackOn(lower);
  peer.send(`${A}:1001`, "t1");
  world.runUntilIdle();
  upper.remove();
  upper.call((io) => send(io, socket, "cut off"));
  peer.send(`${A}:1001`, "t2");
  world.runUntilIdle();
  assertEquals(top.log.map((line) => line.split(" ").at(-1)), ["1"]);
  assertEquals([heard, peer.got], [["2"], []]);
});
