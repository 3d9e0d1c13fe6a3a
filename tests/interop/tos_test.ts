// What a relayed datagram carries besides its data, seen by the peer's kernel.
import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { linuxHost, pickHost } from "../../stun/net/linux_host.ts";
import { PacketBatch } from "../../stun/net/transport.ts";
import { allocate } from "../../turn/allocate.ts";
import { serveTurn } from "../../turn/serve.ts";
import { peerTest } from "./_peers.ts";

const PYTHON = { programs: ["/usr/bin/python3"], install: "apt-get install -y python3" };
/** DSCP EF and ECN's "congestion experienced". */
const MARKED = 0xb8 | 3;
const name = "RFC 8656 §13, §14, T30: marked datagrams are relayed as Best Effort and Not-ECT, whatever the families";

/** A host whose datagrams are all marked. */
function markedHost() {
  const host = linuxHost();
  return {
    ...host,
    openDatagram: (...args: Parameters<typeof host.openDatagram>) => {
      const socket = host.openDatagram(...args);
      assertEquals(socket.setTypeOfService(MARKED), true);
      return socket;
    },
  };
}

if (pickHost("auto").io !== "linux") Deno.test({ name: `${name} (skipped, needs Linux)`, ignore: true, fn() {} });
else {
  peerTest(name, PYTHON, async (t) => {
    for (const io of ["deno", "linux"] as const) {
      for (const address of ["127.0.0.1", "::1"]) {
        await t.step(`--io ${io}, peer ${address}`, async () => {
          const script = new URL("agents/tos_peer.py", import.meta.url).pathname;
          const pipes = { stdin: "piped", stdout: "piped" } as const;
          const peer = new Deno.Command("/usr/bin/python3", { args: [script, address], ...pipes }).spawn();
          const lines = peer.stdout.pipeThrough(new TextDecoderStream()).getReader();
          let rest = "";
          const read = async () => {
            while (!rest.includes("\n")) rest += (await lines.read()).value;
            const end = rest.indexOf("\n");
            const line = rest.slice(0, end);
            rest = rest.slice(end + 1);
            return Number(line);
          };
          const to = TransportAddress.of(address, await read());
          // Directly the marks arrive.
          const direct = markedHost().openDatagram({ transport: "udp", address, port: 0 }, () => {});
          const batch = new PacketBatch(1);
          batch.push(to, Uint8Array.of(0), 0, 1);
          direct.send(batch);
          assertEquals(await read(), MARKED);
          direct.close();
          {
            await using server = serveTurn({
              host: pickHost(io).host,
              listen: ["127.0.0.1:0"],
              relayAddresses: ["127.0.0.1", "::1"],
              realm: "example.org",
              users: { alice: "secret" },
              allowPeers: ["127.0.0.0/8", "::1"],
            });
            const credentials = { username: "alice", password: "secret", family: "dual" } as const;
            await using relay = await allocate({ host: markedHost(), server: server.addresses[0]!, ...credentials });
            await relay.permit(to);
            relay.send(to, Uint8Array.of(1));
            const byIndication = await read();
            await relay.bindChannel(to);
            relay.send(to, Uint8Array.of(2));
            assertEquals([byIndication, await read()], [0, 0]);
          }
          await peer.stdin.close();
          assertEquals([rest, (await lines.read()).done], ["", true]);
          await peer.status;
        });
      }
    }
  });
}
