// Run inside a network namespace by icmp_test.ts: a server, a client of it that sends to PEER what is too long for the way
// there, and a line for each ICMP message that the client hears of, until it has heard of the last.
import { TransportAddress } from "../../stun/address.ts";
import { linuxHost } from "../../stun/net/linux_host.ts";
import { allocate, serveTurn } from "../../turn/mod.ts";

const [address, peerText] = Deno.args as [string, string];
const peer = TransportAddress.parse(peerText);
await using server = serveTurn({
  host: linuxHost(),
  listen: [`${address}:0`],
  realm: "example.org",
  users: { alice: "secret" },
  allowPeers: ["10.0.0.0/8"],
});
let heard = Promise.withResolvers<string>();
await using relay = await allocate({
  server: server.addresses[0]!,
  username: "alice",
  password: "secret",
  dontFragment: true,
  onIcmp: (from, { type, code, data }) => heard.resolve(`${from} ${type} ${code} ${data}`),
});
/** Sends a datagram and waits for what comes of it. */
async function send(length: number, dontFragment: boolean): Promise<void> {
  heard = Promise.withResolvers<string>();
  relay.send(peer, new Uint8Array(length), { dontFragment });
  const line = `${length} ${dontFragment ? "DF" : "--"}: ${await heard.promise}\n`;
  await Deno.stdout.write(new TextEncoder().encode(line));
}
await send(1200, true); // too long for a link on the way
await send(1200, true); // again: nothing that the kernel has learnt stands in between
await send(1200, false); // arrives in fragments, where nobody is
await send(1600, true); // too long for the server's own link
await send(100, true); // arrives
