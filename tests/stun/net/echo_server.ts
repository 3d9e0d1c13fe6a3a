// An echo server over TCP, for tests that need one in a process of its own. Prints its port, and its first accept error.
import { denoHost } from "../../../stun/net/deno_host.ts";
import { Driver } from "../../../stun/net/driver.ts";
import type { Machine } from "../../../stun/machine.ts";

const echo: Machine = {
  deadline: Infinity,
  handleTimeout() {},
  handlePacket: (packet, io) => io.send(packet.socket, packet.from, packet.buffer, packet.offset, packet.length),
};
const driver = new Driver(denoHost());
const listener = driver.add(echo).listenStream({ transport: "tcp", address: "127.0.0.1", port: 0 });
const say = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
say(String(listener.localAddress.port));
const watch = setInterval(() => {
  if (listener.acceptErrors === 0) return;
  clearInterval(watch);
  say("accept error");
}, 20);
