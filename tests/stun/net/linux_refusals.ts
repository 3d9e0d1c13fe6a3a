// Run by linux_refusals_test.ts in a namespace; prints what happened as JSON.
import { linuxHost } from "../../../stun/net/linux_host.ts";
import { PacketBatch } from "../../../stun/net/transport.ts";

const task = Deno.args[0];
const host = linuxHost({ sendBuffer: task === "full" ? 20_000 : 1 << 20, receiveBuffer: 4 << 20 });
const wish = { transport: "udp", address: "127.0.0.1", port: 0 } as const;
const out = new PacketBatch(64);
const MARK = 0xff;
let got = 0;
const finished = Promise.withResolvers<void>();
const to = host.openDatagram(wish, (batch) => {
  for (let i = 0; i < batch.length; i++) {
    got++;
    if (batch.buffers[i]![batch.offsets[i]!] === MARK || got === 256) finished.resolve();
  }
});
const from = host.openDatagram(wish, () => {});

function send(count: number, size: number): void {
  for (; count > 0; count -= out.length) {
    out.length = 0;
    while (out.length < Math.min(count, out.capacity)) out.push(to.localAddress, new Uint8Array(size), 0, size);
    from.send(out);
  }
}

let retries = 0;
if (task === "narrow") send(256, 3000);
else {
  send(200, 1000);
  // A mark behind all that got through: tried until there is room for it.
  const before = from.sendErrors;
  for (let failed = -1; failed !== from.sendErrors;) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    failed = from.sendErrors;
    out.length = 0;
    out.push(to.localAddress, Uint8Array.of(MARK), 0, 1);
    from.send(out);
  }
  retries = from.sendErrors - before;
}
await finished.promise;
const sendErrors = from.sendErrors - retries;
const sendBufferFull = from.sendBufferFull - retries;
to.close();
from.close();
// deno-lint-ignore no-console
console.log(JSON.stringify({ got, sendErrors, sendBufferFull }));
