import { assert, assertEquals, assertThrows } from "@std/assert";
import { TransportAddress } from "../../../stun/address.ts";
import { Driver } from "../../../stun/net/driver.ts";
import { OpenError } from "../../../stun/net/transport.ts";
import { VirtualWorld } from "../../../stun/net/virtual/mod.ts";
import { A, B, Probe, scene, send } from "./_probe.ts";
import { counted, endpoint } from "./virtual/rig.ts";

const decoder = new TextDecoder();

Deno.test("Driver: an echo on one virtual host answers a caller on another", async () => {
  const world = new VirtualWorld({ seed: 1, link: { delay: 10 } });
  const echo = new Probe();
  echo.onPacket = (_text, packet, io) =>
    io.send(packet.socket, packet.from, packet.buffer, packet.offset, packet.length);
  const server = new Driver(world.addHost("server", { addresses: [B] }));
  server.add(echo).bind({ transport: "udp", address: B, port: 7 });
  const caller = new Probe();
  caller.onPacket = (text, _packet, io) => io.emit(text);
  const client = new Driver(world.addHost("client", { addresses: [A] }));
  const answer = await world.run(() =>
    new Promise<string>((resolve) => {
      const handle = client.add(caller, { onEvent: resolve });
      const { socket } = handle.bind({ transport: "udp", address: A, port: 1000 });
      handle.call((io) => send(io, socket, "are you there", TransportAddress.parse(`${B}:7`)));
    })
  );
  assertEquals([answer, world.now], ["are you there", 40]);
  assertEquals(echo.log, [`20 socket 1: ${A}:1000 are you there`]);
  assertEquals(counted(world.counters), { sent: 2, delivered: 2 });
});

Deno.test("Driver: timers of all its machines ring in the order of their deadlines, on one alarm", () => {
  const { world, driver } = scene();
  const order: string[] = [];
  const machines = [30, 10, 20, 15].map((deadline, i) => {
    const machine = new Probe();
    machine.deadline = deadline;
    machine.onTimeout = (io) => {
      order.push(`${i} at ${io.now}`);
      if (io.now < 30) machine.deadline = io.now + 17;
    };
    driver.add(machine).call(() => {}); // a turn takes note of the deadline
    return machine;
  });
  world.runUntilIdle();
  assertEquals(order, ["1 at 10", "3 at 15", "2 at 20", "1 at 27", "0 at 30", "3 at 32", "2 at 37", "1 at 44"]);
  assert(machines.every((machine) => machine.deadline === Infinity));
});

Deno.test("Driver: a deadline that moves, comes nearer or goes away is followed", () => {
  const { world, probe, handle } = scene();
  const settle = (deadline: number) => {
    probe.deadline = deadline;
    handle.call(() => {});
  };
  settle(50);
  settle(20);
  world.advance(15);
  settle(40);
  world.advance(15);
  assertEquals(probe.log, []);
  world.advance(15);
  assertEquals(probe.log, ["40 timeout"]);
  settle(60);
  settle(Infinity);
  world.runUntilIdle();
  settle(10); // in the past
  world.runUntilIdle();
  assertEquals(probe.log, ["40 timeout", "45 timeout"]);
});

Deno.test("Driver: all of a turn is sent at its end, in the order it was recorded, across sockets", () => {
  const { world, handle, socket, peer } = scene();
  const other = handle.bind({ transport: "udp", address: A, port: 1001 }).socket;
  handle.call((io) => {
    for (const [i, from] of [socket, socket, other, socket, other, other].entries()) send(io, from, String(i));
    assertEquals(world.counters.sent, 4, "one flush for each change of socket, the last one is still to come");
  });
  assertEquals(world.counters.sent, 6);
  world.runUntilIdle();
  assertEquals(peer.got, [
    `${A}:1000 0`,
    `${A}:1000 1`,
    `${A}:1001 2`,
    `${A}:1000 3`,
    `${A}:1001 4`,
    `${A}:1001 5`,
  ]);
});

Deno.test("Driver: a thousand datagrams of one turn leave whole, though scratch memory and batch are smaller", () => {
  const { world, handle, socket, peer } = scene();
  handle.call((io) => {
    for (let i = 0; i < 1000; i++) send(io, socket, String(i).padEnd(200, "."));
  });
  world.runUntilIdle();
  assertEquals(peer.got.map((line) => parseInt(line.split(" ")[1]!)), Array.from({ length: 1000 }, (_, i) => i));
});

Deno.test("Driver: time stands still during a turn, whatever the machine does", () => {
  const { world, probe, handle, events } = scene();
  world.advance(5);
  const seen: number[] = [];
  probe.onOpened = (_socket, io) => {
    seen.push(io.now);
    io.emit("opened");
  };
  handle.call((io) => {
    seen.push(io.now);
    io.open({ transport: "udp", address: A, port: 1005 });
    seen.push(io.now);
  });
  assertEquals([seen, events], [[5, 5, 5], ["opened"]]);
});

Deno.test("Driver: what a machine sent leaves before hooks hear what it delivered and emitted, in that order", () => {
  const { world, probe, driver, peer } = scene();
  const machine = new Probe();
  const heard: string[] = [];
  const handle = driver.add(machine, {
    onEvent: (event) => heard.push(`${event}, ${world.counters.sent} sent`),
    onDeliver: (_from, bytes) => heard.push(`${decoder.decode(bytes)}, ${world.counters.sent} sent`),
  });
  const { socket } = handle.bind({ transport: "udp", address: A, port: 1001 });
  machine.onPacket = (text, packet, io) => {
    io.emit("first event");
    send(io, packet.socket, "answer", packet.from);
    io.deliver(packet.from, packet.buffer, packet.offset, packet.length);
    io.emit("second event");
    heard.push(`machine done with ${text}`);
  };
  peer.send(`${A}:1001`, "question");
  world.runUntilIdle();
  assertEquals(heard, [
    "machine done with question",
    "first event, 2 sent",
    "question, 2 sent",
    "second event, 2 sent",
  ]);
  assertEquals([peer.got, probe.log, socket > 0], [[`${A}:1001 answer`], [], true]);
});

Deno.test("Driver: hooks may call back into the machine, which sees one turn after the other", () => {
  const { world, driver, peer } = scene();
  const machine = new Probe();
  const order: string[] = [];
  const handle = driver.add(machine, {
    onEvent(event) {
      order.push(`hook ${event}`);
      if (event.length >= 3) return;
      handle.call((io) => {
        order.push(`verb in ${event}`);
        send(io, socket, event);
        io.emit(`${event}+`);
        order.push(`verb in ${event} done`);
      });
      order.push(`hook ${event} done`);
    },
  });
  const { socket } = handle.bind({ transport: "udp", address: A, port: 1001 });
  handle.call((io) => io.emit("x"));
  world.runUntilIdle();
  assertEquals(order, [
    "hook x",
    "verb in x",
    "verb in x done",
    "hook x done",
    "hook x+",
    "verb in x+",
    "verb in x+ done",
    "hook x+ done",
    "hook x++",
  ]);
  assertEquals(peer.got, [`${A}:1001 x`, `${A}:1001 x+`]);
});

Deno.test("Driver: open() gives a number at once, and the outcome after the call", () => {
  const { world, a, probe, handle } = scene();
  endpoint(a, `${A}:3000`);
  const numbers = handle.call((io) => {
    const wishes = [[A, 3000], [B, 3001], ["nonsense", 3002], [A, 3003]] as const;
    const sockets = wishes.map(([address, port]) => io.open({ transport: "udp", address, port }));
    assertEquals(probe.log, []);
    return sockets;
  });
  assertEquals(new Set(numbers).size, 4);
  assertEquals(probe.log, [
    `0 failed ${numbers[0]}: address-in-use`,
    `0 failed ${numbers[1]}: address-not-available`,
    `0 failed ${numbers[2]}: other`,
    `0 opened ${numbers[3]} at ${A}:3003`,
  ]);
  endpoint(world.addHost("c", { addresses: ["192.0.2.3"] }), "192.0.2.3:1").send(`${A}:3003`, "hello");
  world.runUntilIdle();
  assertEquals(probe.log.at(-1), `2 socket ${numbers[3]}: 192.0.2.3:1 hello`);
});

Deno.test("Driver: a failed open can be tried again from the answer, until it works", () => {
  const { a, probe, handle } = scene();
  for (const port of [3000, 3001, 3002]) endpoint(a, `${A}:${port}`);
  let port = 3000;
  probe.onOpenFailed = (_failure, io) => void io.open({ transport: "udp", address: A, port: ++port });
  handle.call((io) => void io.open({ transport: "udp", address: A, port }));
  assertEquals(probe.log.map((line) => line.split(" ")[1]), ["failed", "failed", "failed", "opened"]);
  assert(probe.log[3]!.endsWith(`${A}:3003`));
});

Deno.test("Driver: a socket that is closed before it is open stays closed", () => {
  const { a, probe, handle } = scene();
  handle.call((io) => io.close(io.open({ transport: "udp", address: A, port: 3000 })));
  assertEquals(probe.log, []);
  endpoint(a, `${A}:3000`); // the port is free
});

Deno.test("Driver: bind() throws what the host says", () => {
  const { handle } = scene();
  const error = assertThrows(() => handle.bind({ transport: "udp", address: A, port: 1000 }), OpenError);
  assertEquals(error.failure, "address-in-use");
});

Deno.test("Driver: what was sent leaves before its socket is closed in the same turn; nothing leaves after", () => {
  const { world, a, handle, socket, peer } = scene();
  handle.call((io) => {
    send(io, socket, "goodbye");
    io.close(socket);
    send(io, socket, "too late");
    io.close(socket);
  });
  peer.send(`${A}:1000`);
  world.runUntilIdle();
  assertEquals(peer.got, [`${A}:1000 goodbye`]);
  assertEquals(a.counters.noSocket, 1);
  endpoint(a, `${A}:1000`); // the port is free
});

Deno.test("Driver: a removed machine hears nothing more: no packet, no timeout, no answer to open()", () => {
  const { world, a, probe, handle, peer } = scene();
  probe.deadline = 1;
  handle.call((io) => {
    io.open({ transport: "udp", address: A, port: 3000 });
    handle.remove();
    handle.remove();
  });
  peer.send(`${A}:1000`);
  world.runUntilIdle();
  assertEquals(probe.log, []);
  assertEquals(a.counters.noSocket, 1);
  assert(handle.removed);
  endpoint(a, `${A}:3000`);
});

Deno.test("Driver: removing one machine leaves the others", () => {
  const { world, driver, probe, handle, peer } = scene();
  const other = new Probe();
  driver.add(other).bind({ transport: "udp", address: A, port: 1001 });
  probe.deadline = 50;
  handle.call(() => {});
  handle.remove();
  peer.send(`${A}:1001`, "still there");
  world.runUntilIdle();
  assertEquals([probe.log, other.log], [[], [`2 socket 2: ${B}:2000 still there`]]);
});

Deno.test("Driver: close() frees all sockets, stops all timers and can be called twice", () => {
  const { world, a, driver, probe, handle, peer } = scene();
  probe.deadline = 50;
  handle.call(() => {});
  driver.close();
  driver.close();
  peer.send(`${A}:1000`);
  world.runUntilIdle();
  assertEquals([probe.log, world.now], [[], 2]);
  assertEquals(a.counters.noSocket, 1);
  assertThrows(() => handle.bind({ transport: "udp", address: A, port: 0 }), OpenError, "driver is closed");
  handle.call((io) => void io.open({ transport: "udp", address: A, port: 0 }));
  assertEquals(probe.log.map((line) => line.split(" ").at(-1)), ["other"]);
});

Deno.test("Driver: close() from a hook still sends what the machine recorded", () => {
  const { world, driver, peer } = scene();
  const handle = driver.add(new Probe(), { onEvent: () => driver.close() });
  const { socket } = handle.bind({ transport: "udp", address: A, port: 1001 });
  handle.call((io) => {
    send(io, socket, "goodbye");
    io.emit("done");
  });
  world.runUntilIdle();
  assertEquals(peer.got, [`${A}:1001 goodbye`]);
});

Deno.test("Driver: a hook that throws ends neither the turn nor the driver; the error comes out at the end", () => {
  const { world, driver, peer } = scene();
  const machine = new Probe();
  const heard: string[] = [];
  const handle = driver.add(machine, {
    onEvent(event) {
      heard.push(event);
      if (event === "bad") throw new TypeError("of a hook");
    },
  });
  const { socket } = handle.bind({ transport: "udp", address: A, port: 1001 });
  assertThrows(
    () =>
      handle.call((io) => {
        io.emit("bad");
        io.open({ transport: "udp", address: A, port: 1002 });
        io.emit("good");
        send(io, socket, "sent all the same");
        machine.deadline = 10;
      }),
    TypeError,
    "of a hook",
  );
  assertEquals(heard, ["bad", "good"]);
  assertEquals(machine.log.length, 1, "opened");
  world.runUntilIdle();
  assertEquals(peer.got, [`${A}:1001 sent all the same`]);
  assertEquals(machine.log.at(-1), "10 timeout");
  handle.call((io) => send(io, socket, "still working"));
  world.runUntilIdle();
  assertEquals(peer.got.length, 2);
});

Deno.test("Driver: a machine that throws, which is its own fault, takes nobody with it", () => {
  const { world, probe, handle, socket, peer } = scene();
  assertThrows(
    () =>
      handle.call((io) => {
        send(io, socket, "before");
        throw new RangeError("local misuse");
      }),
    RangeError,
    "local misuse",
  );
  world.runUntilIdle();
  assertEquals(peer.got, [`${A}:1000 before`]);
  probe.deadline = 30;
  handle.call(() => {});
  world.runUntilIdle();
  assertEquals(probe.log, ["30 timeout"]);
});

Deno.test("Driver: randomness is the host's, scratch memory is never handed out twice in a turn", () => {
  const { handle } = scene();
  handle.call((io) => {
    const bytes = new Uint8Array(16);
    io.random.fill(bytes);
    assert(bytes.some((byte) => byte !== 0));
    const pieces = Array.from({ length: 100 }, (_, i) => io.scratch(1500).fill(i));
    assert(pieces.every((piece, i) => piece.length === 1500 && piece.every((byte) => byte === i)));
    assertEquals(io.scratch(100_000).length, 100_000);
  });
});
