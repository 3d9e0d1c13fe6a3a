import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type TraceStep, VirtualWorld } from "../../../../stun/net/virtual/mod.ts";
import { counted, endpoint } from "./rig.ts";

function scene() {
  const world = new VirtualWorld({ seed: 1 });
  const a = world.addHost("a", { addresses: ["192.0.2.1"] });
  const b = world.addHost("b", { addresses: ["192.0.2.2"] });
  return { world, a, b, one: endpoint(a, "192.0.2.1:1"), two: endpoint(b, "192.0.2.2:1") };
}

Deno.test("World: time moves only when it is told to, and to the very point", () => {
  const { world, one, two } = scene();
  one.send(two.address);
  assertEquals([world.now, world.inFlight], [0, 1]);
  world.advance(1.5);
  assertEquals([world.now, two.got.length], [1.5, 0]);
  world.advanceTo(2);
  assertEquals([world.now, two.times], [2, [2]]);
  assertEquals(world.inFlight, 0);
  assertThrows(() => world.advanceTo(1), RangeError, "Cannot advance to 1 ms as it must be a time from now on");
  assertThrows(() => world.advance(NaN), RangeError);
  assertThrows(() => world.advance(Infinity), RangeError);
});

Deno.test("World: step() lets one event happen", () => {
  const { world, one, two } = scene();
  one.send(two.address);
  assertEquals([world.step(), world.now, two.got.length], [true, 1, 0]);
  assertEquals([world.step(), world.now, two.got.length], [true, 2, 1]);
  assertEquals(world.step(), false);
});

Deno.test("World: of events at one time the one that was set off first happens first", () => {
  const world = new VirtualWorld();
  const order: number[] = [];
  for (let i = 0; i < 100; i++) world.after(i % 2 === 0 ? 5 : 5.0, () => order.push(i));
  world.after(1, () => world.after(4, () => order.push(100)));
  world.runUntilIdle();
  assertEquals(order, Array.from({ length: 101 }, (_, i) => i));
});

Deno.test("World: thousands of events in any order come out by time", () => {
  const world = new VirtualWorld();
  const times: number[] = [];
  const cancels: (() => void)[] = [];
  for (let i = 0; i < 5000; i++) cancels.push(world.after((i * 7919) % 5003, () => times.push(world.now)));
  for (let i = 0; i < 5000; i += 3) cancels[i]!();
  world.runUntilIdle();
  assertEquals(times.length, 5000 - 1667);
  assert(times.every((time, i) => i === 0 || times[i - 1]! <= time));
});

Deno.test("World: runUntilIdle() ends with nothing left, or says what is", () => {
  const { world, a } = scene();
  world.after(3000, () => {});
  world.runUntilIdle();
  assertEquals(world.now, 3000);
  const timer = a.createTimer(() => timer.set(a.now() + 1000)); // a keepalive
  timer.set(4000);
  assertThrows(
    () => world.runUntilIdle(10_000),
    Error,
    "Cannot become idle within 10000 ms: the next event is due at 14000 ms",
  );
  timer.set(Infinity);
  world.runUntilIdle(Infinity);
});

Deno.test("World: a loop that stops time is found out", () => {
  const { world, a } = scene();
  const timer = a.createTimer(() => timer.set(0));
  timer.set(5);
  assertThrows(() => world.runUntilIdle(), Error, "events at 5 ms, and virtual time stands still");
  timer.set(Infinity);
});

Deno.test("World: time can not be moved from inside an event", () => {
  const world = new VirtualWorld();
  world.after(1, () => world.advance(1));
  assertThrows(() => world.advance(5), Error, "Cannot let virtual time pass inside an event");
  world.advance(5);
});

Deno.test("run: gives what the program gives, in virtual time", async () => {
  const world = new VirtualWorld();
  const week = 7 * 24 * 3_600_000;
  const result = await world.run(async () => {
    await world.sleep(week);
    return "done";
  }, { limit: Infinity });
  assertEquals([result, world.now], ["done", week]);
  assertEquals(await world.run(() => 5), 5);
  assertEquals(world.now, week);
});

Deno.test("run: a program comes to rest before the clock goes on, however long its chain of promises", async () => {
  const { world, one, two } = scene();
  const log: string[] = [];
  world.after(1, () => log.push(`next event at ${world.now}`));
  world.after(1.0001, () => log.push(`later event at ${world.now}`));
  await world.run(async () => {
    await world.sleep(1);
    for (let i = 0; i < 20_000; i++) await null;
    log.push(`20000 hops on at ${world.now}`);
    one.send(two.address);
    await world.sleep(3);
    log.push(`delivered by ${world.now}: ${two.got.length}`);
  });
  assertEquals(log, ["next event at 1", "20000 hops on at 1", "later event at 1.0001", "delivered by 4: 1"]);
});

Deno.test("run: streams and async iterators need no real time", async () => {
  const { world, a, one } = scene();
  const got = await world.run(async () => {
    const { readable, writable } = new TransformStream<number, number>();
    const writer = writable.getWriter();
    let left = 3;
    a.openDatagram({ transport: "udp", address: "192.0.2.1", port: 9 }, (batch) => {
      writer.write(batch.lengths[0]!);
      if (--left === 0) writer.close();
    });
    for (const text of ["x", "xx", "xxx"]) one.send("192.0.2.1:9", text);
    const sizes: number[] = [];
    for await (const size of readable) sizes.push(size);
    return sizes;
  });
  assertEquals(got, [1, 2, 3]);
  assertEquals(world.now, 0);
});

Deno.test("run: a program that waits for nothing is told so", async () => {
  const { world, one, two } = scene();
  one.send(two.address);
  await assertRejects(
    () => world.run(() => new Promise(() => {})),
    Error,
    "Cannot go on at 2 ms: the program waits, but nothing is left to happen",
  );
  await assertRejects(() => world.run(() => new Promise(() => {}), { limit: Infinity }), Error, "nothing is left");
  assertEquals(await world.run(() => "and the world is still good"), "and the world is still good");
});

Deno.test("run: a program that takes too long is told so", async () => {
  const { world, a } = scene();
  const timer = a.createTimer(() => timer.set(a.now() + 1000));
  timer.set(1000);
  await assertRejects(
    () => world.run(() => new Promise(() => {}), { limit: 5500 }),
    Error,
    "Cannot go on at 5000 ms: the program still waits after the limit of 5500 ms",
  );
  await assertRejects(() => world.run(() => new Promise(() => {})), Error, "limit of 3600000 ms");
  assertEquals(world.now, 5000 + 3_600_000);
  timer.set(Infinity);
});

Deno.test("run: errors of the program, of a receiver and of an alarm end it", async () => {
  const { world, a, one } = scene();
  const never = () => new Promise<never>(() => {});
  await assertRejects(
    () => world.run(() => Promise.reject(new RangeError("of the program"))),
    RangeError,
    "of the program",
  );
  await assertRejects(
    () =>
      world.run(() => {
        throw new RangeError("at once");
      }),
    RangeError,
    "at once",
  );
  a.openDatagram({ transport: "udp", address: "192.0.2.1", port: 9 }, () => {
    throw new TypeError("of a receiver");
  });
  one.send("192.0.2.1:9");
  await assertRejects(() => world.run(never), TypeError, "of a receiver");
  assertEquals(world.inFlight, 0);
  world.after(5, () => {
    throw new TypeError("of an alarm");
  });
  await assertRejects(() => world.run(never), TypeError, "of an alarm");
  assertEquals(counted(world.counters), { sent: 1, delivered: 1 });
});

Deno.test("run: nothing else may move the clock meanwhile", async () => {
  const world = new VirtualWorld();
  await world.run(async () => {
    const message = "Cannot let virtual time pass while run() does";
    assertThrows(() => world.advance(1), Error, message);
    assertThrows(() => world.runUntilIdle(), Error, message);
    assertThrows(() => world.step(), Error, message);
    await assertRejects(() => world.run(() => 1), Error, message);
    await world.sleep(1);
  });
  assertEquals(world.now, 1);
});

Deno.test("run: hold() makes time stand still for something real", async () => {
  const world = new VirtualWorld();
  let ticks = 0;
  const tick = () => {
    ticks++;
    world.after(1, tick);
  };
  tick();
  const digest = await world.run(async () => {
    await world.sleep(10);
    const before = ticks;
    const first = await world.hold(crypto.subtle.digest("SHA-256", new Uint8Array(1_000_000)));
    assertEquals([ticks, world.now], [before, 10]);
    await assertRejects(() => world.hold(Promise.reject(new Error("real"))), Error, "real");
    await world.sleep(1);
    return first;
  });
  assertEquals([digest.byteLength, world.now], [32, 11]);
});

Deno.test("run: a callback of trace or drop() wakes the program at its time, too", async () => {
  const { world, b, one, two } = scene();
  const asked = Promise.withResolvers<void>();
  const lost = Promise.withResolvers<void>();
  const drop = () => {
    asked.resolve();
    return true;
  };
  b.link.down.set({ drop });
  const times = await world.run(async () => {
    one.send(two.address);
    await asked.promise;
    const times = [world.now];
    world.trace = ({ step }) => step === "lost" && lost.resolve();
    one.send(two.address);
    await lost.promise;
    return [...times, world.now];
  });
  assertEquals(times, [1, 2]);
});

Deno.test("World: the same seed gives the same trace, whether stepped or run, and whatever the real time", async () => {
  const play = async (how: "sync" | "run") => {
    const lines: string[] = [];
    const trace = (step: TraceStep) => lines.push(`${step.at} ${step.id} ${step.node} ${step.step}`);
    const world = new VirtualWorld({ seed: "again", trace, link: { delay: 3, jitter: 9, loss: 0.1, duplicate: 0.1 } });
    const server = world.addHost("server", { addresses: ["198.51.100.1"] });
    const home = world.addNat("home", { external: ["203.0.113.1"], portAllocation: "random" });
    const alice = home.addHost("alice", { addresses: ["192.168.1.2"] });
    const far = endpoint(server, "198.51.100.1:1");
    const near = endpoint(alice, "192.168.1.2:0");
    const work = () => {
      for (let i = 0; i < 50; i++) world.after(i, () => near.send(far.address, String(i)));
    };
    if (how === "sync") {
      work();
      world.runUntilIdle();
    } else {
      await world.run(async () => {
        work();
        await world.sleep(200);
      });
    }
    return lines;
  };
  const first = await play("sync");
  assert(first.length > 150);
  assertEquals(await play("run"), first);
  const real = performance.now();
  while (performance.now() - real < 3); // a slower machine
  assertEquals(await play("run"), first);
});

Deno.test("World: a sleeper can be called off, and time is the same for all hosts", () => {
  const { world, a, b } = scene();
  const cancel = world.after(10, () => {
    throw new Error("was called off");
  });
  cancel();
  cancel();
  world.advance(20);
  assertEquals([a.now(), b.now()], [20, 20]);
});
