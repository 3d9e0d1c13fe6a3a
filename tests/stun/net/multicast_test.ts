import { assertEquals } from "@std/assert";
import { denoHost } from "../../../stun/net/deno_host.ts";
import { PacketBatch } from "../../../stun/net/transport.ts";
import { TransportAddress } from "../../../stun/address.ts";

const host = denoHost();
// A port of no service's, so that nothing else on the machine is heard.
const PORT = 53539;

function member(address: string, group: string) {
  let heard: (text: string) => void = () => {};
  const next = () => new Promise<string>((resolve) => heard = resolve);
  const socket = host.openGroup!({ transport: "udp", address, port: PORT, group }, (batch) => {
    const bytes = batch.buffers[0]!.subarray(batch.offsets[0]!, batch.offsets[0]! + batch.lengths[0]!);
    heard(`${batch.addresses[0]} ${new TextDecoder().decode(bytes)}`);
  });
  const send = (to: TransportAddress, text: string) => {
    const batch = new PacketBatch(1);
    const bytes = new TextEncoder().encode(text);
    batch.push(to, bytes, 0, bytes.length);
    socket.send(batch);
  };
  return { socket, next, send };
}

Deno.test("Multicast on loopback: two sockets share a port, both hear the group, and one its own address", async () => {
  const group = "224.0.0.251";
  const [one, two] = [member("127.0.0.1", group), member("127.0.0.2", group)];
  const [atOne, atTwo] = [one.next(), two.next()];
  one.send(TransportAddress.of(group, PORT), "all");
  assertEquals([await atOne, await atTwo], Array(2).fill(`127.0.0.1:${PORT} all`));
  const answer = one.next();
  two.send(TransportAddress.of("127.0.0.1", PORT), "you");
  assertEquals(await answer, `127.0.0.2:${PORT} you`);
  for (const { socket } of [one, two]) socket.close();
  await Promise.all([one.socket.closed, two.socket.closed]);
});
