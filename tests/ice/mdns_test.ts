import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import packet from "dns-packet";
import { Mdns, MDNS_GROUPS, type MdnsCounters } from "../../ice/mdns.ts";
import { isMdnsName, newMdnsName } from "../../ice/mdns_name.ts";
import { MdnsClient } from "../../ice/mdns_service.ts";
import { TransportAddress } from "../../stun/address.ts";
import { Driver } from "../../stun/net/driver.ts";
import { PacketBatch } from "../../stun/net/transport.ts";
import { type VirtualHost, VirtualWorld } from "../../stun/net/virtual/mod.ts";

const address = (text: string) => TransportAddress.of(text, 0);
const never = (problem: string) => {
  throw new Error(problem);
};

/** Some computers in one home, 10 ms apart one way. */
function home(...addresses: readonly (readonly string[])[]) {
  const world = new VirtualWorld({ seed: 7, link: { delay: 5 } });
  const gateway = world.addNat("home", { external: ["203.0.113.1"] });
  const hosts = addresses.map((each, i) => gateway.addHost(`host ${i}`, { addresses: each }));
  return { world, gateway, hosts };
}

/** Looks a name up and tells when what came of it. */
function lookUp(client: MdnsClient, host: VirtualHost, name: string): { found?: string } {
  const result: { found?: string } = {};
  const local = host.networkInterfaces[0]!.addresses.map(address);
  client.resolve(name, local, (found) => result.found = `${found?.address ?? "nothing"} at ${host.now()}`);
  return result;
}

function counted(counters: MdnsCounters | undefined): Partial<MdnsCounters> {
  return Object.fromEntries(Object.entries(counters ?? {}).filter(([, count]) => count !== 0));
}

interface Message {
  readonly type: string;
  readonly id: number;
  readonly flags: number;
  readonly questions: readonly { name: string; type: string; class: string }[];
  readonly answers: readonly { name: string; ttl: number; flush: boolean }[];
  readonly additionals: readonly unknown[];
}

/** A program on port 5353 of its own, without any of ours: what it hears, and how it speaks. */
function stranger(host: VirtualHost, local: string, port = 5353) {
  const heard: { at: number; message: Message }[] = [];
  const receiver = (batch: PacketBatch) => {
    const bytes = batch.buffers[0]!.subarray(batch.offsets[0]!, batch.offsets[0]! + batch.lengths[0]!);
    heard.push({ at: host.now(), message: packet.decode(Buffer.from(bytes)) });
  };
  const wish = { transport: "udp" as const, address: local, port };
  const socket = port === 5353
    ? host.openGroup({ ...wish, group: MDNS_GROUPS[4].address }, receiver)
    : host.openDatagram(wish, receiver);
  const send = (message: unknown, to: TransportAddress = MDNS_GROUPS[4]) => {
    const bytes = message instanceof Uint8Array
      ? message
      : packet.encode(message as Parameters<typeof packet.encode>[0]);
    const batch = new PacketBatch(1);
    batch.push(to, bytes, 0, bytes.length);
    socket.send(batch);
  };
  return { heard, send, socket };
}

Deno.test("mDNS draft §3.1.1: a name is a version 4 UUID and .local, another for each address and connection", async () => {
  const { world, hosts: [a] } = home(["192.168.1.2", "2001:db8::2"]);
  await world.run(async () => {
    const [one, other] = [new MdnsClient(a!, never), new MdnsClient(a!, never)];
    const names = [one.nameOf(address("192.168.1.2")), one.nameOf(address("2001:db8::2"))];
    assertEquals(one.nameOf(address("192.168.1.2")), names[0]);
    assertEquals(new Set([...names, other.nameOf(address("192.168.1.2"))]).size, 3);
    for (const name of names) assert(isMdnsName(name), name);
    await Promise.all([one.close(), other.close()]);
  });
});

Deno.test("I32: only version 4 UUIDs under .local are names to look up", () => {
  const { world: _, hosts: [a] } = home(["192.168.1.2"]);
  const name = newMdnsName(a!.random);
  for (const good of [name, name.toUpperCase()]) assertEquals(isMdnsName(good), true, good);
  const bad = [
    ...[
      "printer.local",
      "x.local",
      ".local",
      name.slice(1),
      `a.${name}`,
      `${name}.`,
      name.replace(".local", ".invalid"),
    ],
    // Version 1, and another variant.
    ...["9b36eaac-bb2e-19bb-bb78-21c41c499900.local", "9b36eaac-bb2e-49bb-7b78-21c41c499900.local"],
  ];
  for (const text of bad) assertEquals(isMdnsName(text), false, text);
});

Deno.test("I32: a name is found by the first question, for IPv4 and IPv6", async () => {
  for (const own of ["192.168.1.2", "2001:db8::2"]) {
    const { world, hosts: [a, b] } = home(["192.168.1.2", "2001:db8::2"], ["192.168.1.3"]);
    await world.run(async () => {
      const [asked, asks] = [new MdnsClient(a!, never), new MdnsClient(b!, never)];
      const name = asked.nameOf(address(own));
      await world.sleep(100);
      const result = lookUp(asks, b!, name.toUpperCase());
      await world.sleep(700);
      assertEquals(result.found, `${own} at 120`);
      assertEquals(counted(asks.counters), { queriesSent: 2 });
      // IPv4 and IPv6: the answer to A goes to all on either, the one to AAAA but to who has asked.
      assertEquals(counted(asked.counters), { answersSent: 3 });
      await Promise.all([asked.close(), asks.close()]);
    });
  }
});

Deno.test("I32: who does not answer is asked three times for either kind of address, and given up after 5 s", async () => {
  const { world, hosts: [a, b] } = home(["192.168.1.2"], ["192.168.1.3"]);
  await world.run(async () => {
    const nobody = stranger(b!, "192.168.1.3");
    const client = new MdnsClient(a!, never);
    const name = newMdnsName(a!.random);
    const [result, again] = [lookUp(client, a!, name), lookUp(client, a!, name)];
    await world.sleep(60_000);
    assertEquals([result.found, again.found], Array(2).fill("nothing at 5000"));
    assertEquals(nobody.heard.map(({ at }) => at), [10, 10, 1010, 1010, 3010, 3010]);
    // Chromium takes no message with two questions.
    const asked = nobody.heard.slice(0, 2).map(({ message }) => message.questions);
    assertEquals(asked, ["A", "AAAA"].map((type) => [{ name, type, class: "IN" }]));
    assertEquals(counted(client.counters), { queriesSent: 6 });
    await client.close();
  });
});

Deno.test("mDNS draft §6.1: a thousand names make for 50 questions at once and 10 a second, and 64 names at a time", async () => {
  const { world, hosts: [a, b] } = home(["192.168.1.2"], ["192.168.1.3"]);
  await world.run(async () => {
    const listener = stranger(b!, "192.168.1.3");
    const clients = Array.from({ length: 10 }, () => new MdnsClient(a!, never));
    const results = clients.flatMap((client) =>
      Array.from({ length: 100 }, () => lookUp(client, a!, newMdnsName(a!.random)))
    );
    const count = (until: number) => listener.heard.filter(({ at }) => at <= until).length;
    assertEquals(results.filter(({ found }) => found === "nothing at 0").length, 1000 - 64);
    await world.sleep(20_000);
    assertEquals(results.every(({ found }) => found !== undefined), true);
    assertEquals([count(10), count(1010), count(20_000)], [50, 60, 98]);
    await Promise.all(clients.map((client) => client.close()));
  });
});

Deno.test("RFC 6762 §8.3, §6: a name is announced twice, a second apart, unless it was told to all just then", async () => {
  const { world, hosts: [a, b] } = home(["192.168.1.2"], ["192.168.1.3"]);
  await world.run(async () => {
    const listener = stranger(b!, "192.168.1.3");
    const client = new MdnsClient(a!, never);
    const name = client.nameOf(address("192.168.1.2"));
    await world.sleep(5000);
    assertEquals(listener.heard.map(({ at }) => at), [1010, 2010]);
    const { type, flags, answers, additionals } = listener.heard[0]!.message;
    const common = { name, ttl: 120, class: "IN", flush: true };
    assertEquals([type, flags], ["response", 0x0400]);
    assertEquals<unknown>(answers, [{ ...common, type: "A", data: "192.168.1.2" }]);
    assertEquals(additionals, [{ ...common, type: "NSEC", data: { nextDomain: name, rrtypes: ["A"] } }]);
    const closing = client.close();
    await world.sleep(20);
    // RFC 6762 §10.1: a farewell.
    const farewell = listener.heard.at(-1)!.message.answers[0]!;
    assertEquals([farewell.name, farewell.ttl], [name, 0]);
    await closing;
    assertEquals(counted(client.counters), { announcementsSent: 3 });
  });
});

Deno.test("RFC 6762 §6: to all once in a second at most; who asks meanwhile gets an answer of its own", async () => {
  const { world, hosts: [a, b] } = home(["192.168.1.2"], ["192.168.1.3"]);
  await world.run(async () => {
    const [asker, listener] = [stranger(b!, "192.168.1.3"), stranger(b!, "192.168.1.3")];
    const client = new MdnsClient(a!, never);
    const name = client.nameOf(address("192.168.1.2"));
    const query = { type: "query", questions: [{ type: "A", name }] };
    for (let i = 0; i < 3; i++) asker.send(query);
    await world.sleep(100);
    // On the asker's host the program that came last has the port.
    const isResponse = ({ message }: { message: { type?: string } }) => message.type === "response";
    assertEquals([asker, listener].map(({ heard }) => heard.filter(isResponse).length), [1, 3]);
    assertEquals(counted(client.counters), { answersSent: 3 });
    await client.close();
  });
});

Deno.test("RFC 6762 §5.4, §6.7, §7.1, §11: unicast answers, legacy ones, known ones, and none beyond the link", async () => {
  const { world, hosts: [a, b, far] } = home(["192.168.1.2"], ["192.168.1.3"], ["192.168.7.3"]);
  await world.run(async () => {
    const [asker, legacy] = [stranger(b!, "192.168.1.3"), stranger(b!, "192.168.1.3", 40000)];
    const [farLegacy, farAsker] = [stranger(far!, "192.168.7.3", 40000), stranger(far!, "192.168.7.3")];
    const client = new MdnsClient(a!, never);
    const name = client.nameOf(address("192.168.1.2"));
    const query = { type: "query", id: 77, questions: [{ type: "ANY", name: name.toUpperCase() }] };
    for (const { send } of [legacy, farLegacy]) send(query);
    farLegacy.send(query, TransportAddress.parse("192.168.1.2:5353"));
    await world.sleep(50);
    assertEquals([legacy.heard.length, farLegacy.heard.length, farAsker.heard.length], [1, 0, 2]);
    const { id, questions, answers } = legacy.heard[0]!.message;
    assertEquals([id, questions.length, answers[0]!.ttl, answers[0]!.flush], [77, 1, 10, false]);
    // It has the answer, so there is none.
    const known = [{ type: "A", name, ttl: 61, data: "192.168.1.2" }];
    asker.send({ type: "query", questions: [{ type: "A", name }], answers: known });
    // Questions about others, or for what a name is not.
    asker.send({ type: "query", questions: [{ type: "A", name: "x.local" }, { type: "TXT", name: "y.local" }] });
    await world.sleep(50);
    assertEquals(counted(client.counters), { answersSent: 1 });
    await client.close();
  });
});

Deno.test("mDNS draft §3.2.2: more than one address, another port, a farewell, a foreign name: no answer to our question", async () => {
  const { world, hosts: [a, b] } = home(["192.168.1.2"], ["192.168.1.3"]);
  await world.run(async () => {
    const liar = stranger(b!, "192.168.1.3");
    const elsewhere = stranger(b!, "192.168.1.3", 4000);
    const client = new MdnsClient(a!, never);
    const names = Array.from({ length: 3 }, () => newMdnsName(a!.random));
    const results = names.map((name) => lookUp(client, a!, name));
    const record = (name: string, data: string, ttl = 120) => ({ type: "A", name, ttl, data });
    elsewhere.send({ type: "response", answers: [record(names[0]!, "192.0.2.1")] });
    liar.send({ type: "response", answers: [record(names[0]!, "192.0.2.1", 0), record("x.local", "192.0.2.1")] });
    liar.send({ type: "response", answers: [record(names[1]!, "192.0.2.1"), record(names[1]!, "192.0.2.2")] });
    liar.send({
      type: "response",
      answers: [record(names[2]!, "192.0.2.1")],
      additionals: [record(names[2]!, "192.0.2.1")],
    });
    await world.sleep(50);
    assertEquals(results.map(({ found }) => found), [undefined, "nothing at 10", "192.0.2.1 at 10"]);
    await client.close();
    await world.sleep(10_000);
    assertEquals(results[0]!.found, undefined);
  });
});

Deno.test("mDNS: a name that was told to all before is known without a question, for as long as it was said", async () => {
  const { world, hosts: [a, b] } = home(["192.168.1.2"], ["192.168.1.3"]);
  await world.run(async () => {
    const teller = stranger(b!, "192.168.1.3");
    const client = new MdnsClient(a!, never);
    client.nameOf(address("192.168.1.2"));
    const [name, gone, brief, double] = Array.from({ length: 4 }, () => newMdnsName(a!.random));
    const tell = (about: string, ttl: number, ...addresses: string[]) =>
      teller.send({ type: "response", answers: addresses.map((data) => ({ type: "A", name: about, ttl, data })) });
    tell(name!.toUpperCase(), 120, "192.168.1.3");
    for (const ttl of [120, 0]) tell(gone!, ttl, "192.168.1.4");
    tell(brief!, 1, "192.168.1.5");
    tell(double!, 120, "192.168.1.6");
    tell(double!, 120, "192.168.1.6", "192.168.1.7");
    await world.sleep(2500);
    const results = [name, gone, brief, double].map((each) => lookUp(client, a!, each!));
    assertEquals(results.map(({ found }) => found), ["192.168.1.3 at 2500", undefined, undefined, undefined]);
    assertEquals(client.counters?.queriesSent, 6);
    // However many there are, the latest 256 are known.
    const many = Array.from({ length: 300 }, () => newMdnsName(a!.random));
    for (const each of many) tell(each, 120, "192.168.1.8");
    await world.sleep(100);
    const { queriesSent } = client.counters!;
    const known = many.filter((each) => {
      const result = lookUp(client, a!, each);
      return result.found !== undefined && !result.found.startsWith("nothing");
    });
    assertEquals([known.length, client.counters!.queriesSent - queriesSent], [256, 44]);
    await client.close();
  });
});

Deno.test("mDNS: a name of the same computer needs no question; two connections that ask for one name ask once", async () => {
  const { world, hosts: [a, b] } = home(["192.168.1.2"], ["192.168.1.3"]);
  await world.run(async () => {
    const [own, one, two] = [new MdnsClient(a!, never), new MdnsClient(b!, never), new MdnsClient(b!, never)];
    const name = own.nameOf(address("192.168.1.2"));
    assertEquals(lookUp(own, a!, name).found, "192.168.1.2 at 0");
    const results = [one, two].map((client) => lookUp(client, b!, name));
    await one.close();
    await world.sleep(50);
    assertEquals(results.map(({ found }) => found), [undefined, "192.168.1.2 at 20"]);
    assertEquals(counted(two.counters), { queriesSent: 2 });
    await Promise.all([own.close(), two.close()]);
    // Nothing is left open.
    assertEquals([a!, b!].map((host) => stranger(host, host.networkInterfaces[0]!.addresses[0]!).heard), [[], []]);
  });
});

Deno.test("mDNS: with another address on the same interface names are found and answered for as before", async () => {
  const { world, hosts: [a, b] } = home(["192.168.1.2"], ["192.168.1.3"]);
  await world.run(async () => {
    const [asked, asks] = [new MdnsClient(a!, never), new MdnsClient(b!, never)];
    const before = asked.nameOf(address("192.168.1.2"));
    assertEquals(lookUp(asks, b!, before).found, undefined);
    await world.sleep(50);
    a!.networkInterfaces[0]!.setAddresses(["192.168.1.7"]);
    b!.networkInterfaces[0]!.setAddresses(["192.168.1.8"]);
    const after = asked.nameOf(address("192.168.1.7"));
    const result = lookUp(asks, b!, after);
    await world.sleep(50);
    assertEquals(result.found, "192.168.1.7 at 70");
    await Promise.all([asked.close(), asks.close()]);
  });
});

Deno.test("mDNS: an interface that can not be used is told of once, and names are made all the same", async () => {
  const { world, hosts: [a] } = home(["192.168.1.2"]);
  await world.run(async () => {
    const problems: string[] = [];
    const client = new MdnsClient(a!, (problem) => problems.push(problem));
    assert(isMdnsName(client.nameOf(address("192.168.1.9"))));
    client.nameOf(address("192.168.1.9"));
    assertEquals(problems, ['Cannot join 224.0.0.251 on 192.168.1.9 of "host 0" as it has no such address']);
    await client.close();
  });
});

Deno.test("mDNS, bad input: no bytes make it throw, or send more than an answer", () => {
  const { world, hosts: [a] } = home(["192.168.1.2"]);
  const machine = new Mdns();
  const driver = new Driver(a!);
  const handle = driver.add(machine);
  const { socket } = handle.bind({ transport: "udp", address: "192.168.1.2", port: 5353, group: "224.0.0.251" });
  machine.addSocket(socket, address("192.168.1.2"), "eth0");
  const [own, wanted] = [newMdnsName(a!.random), newMdnsName(a!.random)];
  handle.call((io) => machine.register(own, address("192.168.1.2"), "eth0", io));
  handle.call((io) => machine.resolve(wanted, io));
  const record = { type: "A", name: wanted, ttl: 120, data: "192.0.2.1" };
  const encode = (message: unknown) => new Uint8Array(packet.encode(message));
  const seeds = [
    encode({ type: "query", questions: [{ type: "A", name: own }, { type: "AAAA", name: own }] }),
    encode({ type: "response", answers: [record, { ...record, type: "AAAA", data: "2001:db8::1" }] }),
    encode({ type: "response", answers: [{ type: "TXT", name: wanted, ttl: 1, data: "x" }, record] }),
  ];
  const noise = fc.oneof(
    fc.uint8Array({ maxLength: 600 }),
    fc.tuple(fc.nat(2), fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 8 }), fc.nat(200)).map(
      ([seed, changes, cut]) => {
        const bytes = seeds[seed]!.slice(0, Math.max(0, seeds[seed]!.length - (cut > 150 ? cut - 150 : 0)));
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        return bytes;
      },
    ),
  );
  let count = 0;
  fc.assert(
    fc.property(noise, (bytes) => {
      count++;
      const from = TransportAddress.parse("192.168.1.3:5353");
      const packet = { socket, from, buffer: bytes, offset: 0, length: bytes.length, bytes };
      handle.call((io) => machine.handlePacket(packet, io));
      return machine.counters.answersSent <= count;
    }),
    { numRuns: 3000 },
  );
  assert(machine.counters.malformed > 0);
  assert(world.now === 0);
  // 50 at a time in all, however much is asked.
  assert(a!.counters.sent <= 50);
  driver.close();
});
