import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../../stun/address.ts";
import type { IcmpMessage, Machine, MachineIo, SocketId } from "../../../stun/machine.ts";
import { Driver } from "../../../stun/net/driver.ts";
import { VirtualWorld } from "../../../stun/net/virtual/mod.ts";

const FAR = TransportAddress.parse("192.0.2.2:9");

/** Notes the ICMP messages that it hears of. */
class Listener implements Machine {
  readonly deadline = Infinity;
  readonly heard: [SocketId, string][] = [];
  handleTimeout(): void {}
  handlePacket(): void {}
  handleIcmp(socket: SocketId, { to, type, code, mtu }: IcmpMessage, _io: MachineIo): void {
    this.heard.push([socket, `${to} ${type} ${code} ${mtu}`]);
  }
}

function scene() {
  const world = new VirtualWorld({ link: { delay: 1 } });
  const host = world.addHost("near", { addresses: ["192.0.2.1"], link: { mtu: 100 } });
  world.addHost("far", { addresses: ["192.0.2.2"] });
  const machine = new Listener();
  const handle = new Driver(host).add(machine);
  const bind = (options: { icmp?: boolean; dontFragment?: boolean }) =>
    handle.bind({ transport: "udp", address: "192.0.2.1", port: 0, ...options }).socket;
  return { world, machine, handle, bind };
}

Deno.test("Driver: ICMP messages come to the machine, for sockets that were opened so and no others", () => {
  const { world, machine, handle, bind } = scene();
  const sockets = [bind({ icmp: true }), bind({}), bind({ icmp: true })];
  handle.call((io) => sockets.forEach((socket) => io.send(socket, FAR, new Uint8Array(1))));
  handle.call((io) => io.close(sockets[2]!));
  world.runUntilIdle();
  assertEquals(machine.heard, [[sockets[0]!, `${FAR} 3 3 0`]]);
  handle.call((io) => io.send(sockets[0]!, FAR, new Uint8Array(1)));
  handle.remove();
  world.runUntilIdle();
  assertEquals(machine.heard.length, 1);
});

Deno.test("Driver: setDontFragment() is for what is recorded after it, in the same turn as well", () => {
  const { world, machine, handle, bind } = scene();
  const socket = bind({ icmp: true, dontFragment: false });
  handle.call((io) => {
    for (const on of [undefined, true, false]) {
      if (on !== undefined) io.setDontFragment!(socket, on);
      io.send(socket, FAR, new Uint8Array(100));
    }
    io.setDontFragment!(4711, true);
  });
  world.runUntilIdle();
  assertEquals(machine.heard, [[socket, `${FAR} 3 4 100`]]);
  assertEquals(world.counters.tooBig, 3);
});
