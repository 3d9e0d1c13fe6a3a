// allocate() and requestBinding() against Debian's turnserver (coturn), and requestBinding() against stund, a server of
// RFC 3489.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { requestBinding } from "../../stun/request.ts";
import { allocate, type AllocateOptions, type Relay } from "../../turn/allocate.ts";
import { TurnError } from "../../turn/error.ts";
import { COTURN, type Coturn, startCoturn, untilAnswered } from "./_coturn.ts";
import { peerTest, startPeer } from "./_peers.ts";
import { freePort } from "../free_port.ts";

const STUND = { programs: ["/usr/sbin/stund"], install: "apt-get install -y stun-server" };
const encoder = new TextEncoder();
const decoder = new TextDecoder();

function open({ address }: Coturn, options: Partial<AllocateOptions> = {}): Promise<Relay> {
  return allocate({ server: `turn:${address}`, username: "test", password: "secret", ...options });
}

async function next(relay: Relay): Promise<string> {
  const { value } = await relay[Symbol.asyncIterator]().next();
  return `${value!.from} ${decoder.decode(value!.data)}`;
}

peerTest("coturn: requestBinding() learns the address, what the server is, and how long it took", COTURN, async () => {
  await using coturn = await startCoturn();
  const { mapped, local, rtt, software, sends } = await requestBinding({ server: `stun:${coturn.address}` });
  assertEquals(String(mapped), String(local));
  assert(software?.startsWith("Coturn"), software);
  assert(sends === 1 && rtt > 0 && rtt < 500);
});

peerTest("coturn: permissions, Send and Data indications, channels, both ways", COTURN, async () => {
  await using coturn = await startCoturn();
  await using a = await open(coturn);
  await using b = await open(coturn);
  assertEquals([a.relayedAddress.address, String(a.mappedAddress)], ["127.0.0.1", String(a.localAddress)]);
  await b.permit(a.relayedAddress);
  a.send(b.relayedAddress, encoder.encode("by indication"));
  assertEquals(await next(b), `${a.relayedAddress} by indication`);
  assertEquals(await a.bindChannel(b.relayedAddress), 0x4000);
  a.send(b.relayedAddress, encoder.encode("by channel"));
  assertEquals(await next(b), `${a.relayedAddress} by channel`);
  assertEquals(await b.bindChannel(a.relayedAddress), 0x4000);
  for (const size of [0, 1, 2, 3, 4, 1200, 8000]) {
    b.send(a.relayedAddress, new Uint8Array(size).fill(7));
    const { value } = await a[Symbol.asyncIterator]().next();
    assertEquals([value!.data.length, value!.data.every((byte) => byte === 7)], [size, true]);
  }
  const { sentChannelData, sentIndications, held } = a.stats();
  assertEquals({ sentChannelData, sentIndications, held }, { sentChannelData: 1, sentIndications: 1, held: 1 });
  assertEquals(a.stats().receivedChannelData, 7);
  // Both that came before it had a channel.
  assertEquals(b.stats().receivedIndications, 2);
});

peerTest("coturn: 300 datagrams each way by channel, none lost", COTURN, async () => {
  await using coturn = await startCoturn();
  await using a = await open(coturn);
  await using b = await open(coturn);
  await Promise.all([a.bindChannel(b.relayedAddress), b.bindChannel(a.relayedAddress)]);
  for (let i = 0; i < 300; i++) {
    a.send(b.relayedAddress, encoder.encode(`${i}`));
    assertEquals(await next(b), `${a.relayedAddress} ${i}`);
    b.send(a.relayedAddress, encoder.encode(`${i} back`));
    assertEquals(await next(a), `${b.relayedAddress} ${i} back`);
  }
});

peerTest("coturn: a wrong password and an unknown user are 401", COTURN, async () => {
  await using coturn = await startCoturn();
  for (const options of [{ password: "guess" }, { username: "nobody" }]) {
    const error = await assertRejects(() => open(coturn, options), TurnError, "(check user name and password)");
    assertEquals(error.code, 401);
  }
});

peerTest("coturn: 440 for a family it has no relay address of", COTURN, async () => {
  await using coturn = await startCoturn();
  assertEquals((await assertRejects(() => open(coturn, { family: 6 }), TurnError)).code, 440);
});

peerTest("coturn: 486 when the user has as many allocations as allowed", COTURN, async () => {
  await using coturn = await startCoturn(["--user-quota=1"]);
  await using _first = await open(coturn);
  assertEquals((await assertRejects(() => open(coturn), TurnError)).code, 486);
});

peerTest("coturn: 403 for a peer that is denied; others are not touched by it", COTURN, async () => {
  await using coturn = await startCoturn(["--denied-peer-ip=198.51.100.0-198.51.100.255"]);
  await using relay = await open(coturn);
  const denied = TransportAddress.parse("198.51.100.7:9");
  assertEquals((await assertRejects(() => relay.permit(denied), TurnError)).code, 403);
  assertEquals((await assertRejects(() => relay.bindChannel(denied), TurnError)).code, 403);
  await relay.permit(relay.relayedAddress);
});

peerTest("coturn: every method meets a stale nonce; the allocation is refreshed, and given back", COTURN, async () => {
  // Nonces last 1 s here, and the first lifetime is 4 s, so that the client refreshes after 2 s.
  await using coturn = await startCoturn(["--stale-nonce=1", "--max-allocate-lifetime=4"]);
  await using relay = await open(coturn);
  const self = relay.relayedAddress;
  await pause(4500);
  await relay.permit(self);
  await pause(2100);
  await relay.bindChannel(self);
  relay.send(self, encoder.encode("still there"));
  assertEquals(await next(relay), `${self} still there`);
  await pause(2100);
  await relay.close();
  const log = await Deno.readTextFile(coturn.log);
  const processed = [...log.matchAll(/session \d+: realm.*incoming packet (\w+) processed, (error \d+|success)/g)];
  assertEquals(processed.map(([, method, result]) => method === "message" ? result : method), [
    ...["error 401", "ALLOCATE", "error 438", "REFRESH", "error 438", "CREATE_PERMISSION"],
    ...["error 438", "CHANNEL_BIND", "error 438", "REFRESH"],
  ]);
  assertEquals(log.match(/ refreshed, .*lifetime=0/g)?.length, 1);
});

peerTest("coturn: an allocation that the server has lost is reported as 437", COTURN, async () => {
  const first = await startCoturn();
  const relay = await open(first);
  await first[Symbol.asyncDispose]();
  await using _second = await startCoturn([], first.address.port);
  // coturn 4.6 has 400 for a permission without an allocation; the Refresh that follows makes it clear.
  const reading = assertRejects(() => next(relay), TurnError);
  await assertRejects(() => relay.permit(relay.relayedAddress), TurnError);
  assertEquals((await reading).code, 437);
  await relay.close();
});

peerTest("stund: requestBinding() understands a server of RFC 3489", STUND, async () => {
  const port = freePort();
  const args = ["-h", "127.0.0.1", "-a", "127.0.0.2", "-p", `${port}`, "-o", `${port + 1}`];
  await using _stund = startPeer("/usr/sbin/stund", args);
  const server = TransportAddress.of("127.0.0.1", port);
  await untilAnswered(server);
  const { mapped, local, otherAddress } = await requestBinding({ server: `stun:${server}` });
  assertEquals(String(mapped), String(local));
  assertEquals(String(otherAddress), `127.0.0.2:${port + 1}`);
});

/** Real time: the server's clock is not ours to move. */
function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
