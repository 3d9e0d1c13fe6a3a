import { assertEquals, assertInstanceOf } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { ALTERNATE_DOMAIN, ALTERNATE_SERVER } from "../../stun/attributes.ts";
import { StunConnectionError, StunTimeoutError } from "../../stun/error.ts";
import { METHOD, StunMessage } from "../../stun/message.ts";
import { ClientRig, error, SERVER, silence } from "./_client_rig.ts";

const TLS = { serverName: "turn.example.org", alpn: ["stun.turn"] };

function allocating(options: ConstructorParameters<typeof ClientRig>[0] = {}): ClientRig {
  const rig = new ClientRig({ transport: "tcp", localAddress: undefined as never, ...options });
  rig.call((client, io) => client.allocate(io));
  return rig;
}

function allocated(): ClientRig {
  const rig = allocating();
  rig.advance(100);
  rig.reset();
  return rig;
}

function failure(rig: ClientRig): Error {
  return rig.eventsOf("failed")[0]!.error;
}

Deno.test("RFC 8656 §3.1: over TCP and TLS the client connects to the server instead of binding a port", () => {
  assertEquals(allocating().opened as unknown[], [{ transport: "tcp", remote: SERVER, tls: {} }]);
  const wish = { transport: "tls", remote: SERVER, tls: TLS, address: "192.0.2.9", port: 4000 };
  const rig = allocating({ transport: "tls", tls: TLS, localAddress: "192.0.2.9", localPort: 4000 });
  assertEquals(rig.opened as unknown[], [wish]);
  rig.advance(100);
  assertEquals(rig.client.state, "allocated");
});

Deno.test("RFC 8489 §6.2.2: over a connection a request leaves once and has failed after 39.5 s", () => {
  const rig = new ClientRig({ transport: "tcp" });
  rig.server.next.set(METHOD.ALLOCATE, [silence]);
  rig.call((client, io) => client.allocate(io));
  const start = rig.now;
  rig.advance(39_499);
  assertEquals([rig.client.state, rig.server.times(METHOD.ALLOCATE)], ["allocating", [start]]);
  rig.advance(1);
  assertInstanceOf(failure(rig), StunTimeoutError);
});

Deno.test("RFC 8489 §6.2.2: the end of the connection is the end of the allocation, and of all requests", () => {
  const early = allocating();
  early.client.handleClosed(early.socket, "reset", early.io);
  assertInstanceOf(failure(early), StunConnectionError);
  assertEquals(failure(early).message, `Cannot allocate on ${SERVER}: the connection ended (reset)`);
  const late = allocated();
  late.client.handleClosed(late.socket + 1, "end", late.io);
  assertEquals(late.client.state, "allocated");
  late.client.handleClosed(late.socket, "end", late.io);
  assertEquals(failure(late).message, `Cannot keep the allocation on ${SERVER}: the connection ended (end)`);
  assertEquals([late.client.state, late.client.deadline], ["failed", Infinity]);
});

Deno.test("close() over a connection: done when the server has answered, or ended it, or after 1.5 s", () => {
  const answered = allocated();
  answered.call((client, io) => client.close(io));
  answered.advance(100);
  const ended = allocated();
  ended.call((client, io) => client.close(io));
  ended.client.handleClosed(ended.socket, "end", ended.io);
  const silent = allocated();
  silent.server.next.set(METHOD.REFRESH, [silence]);
  silent.call((client, io) => client.close(io));
  silent.advance(1499);
  assertEquals(silent.client.state, "closing");
  silent.advance(1);
  for (const rig of [answered, ended, silent]) {
    assertEquals([rig.client.state, rig.eventsOf("closed").length, rig.client.deadline], ["closed", 1, Infinity]);
    assertEquals(rig.server.times(METHOD.REFRESH).length, 1);
  }
});

Deno.test("RFC 8656 §7.4: a 437 over a connection is followed by another connection", () => {
  const rig = new ClientRig({ transport: "tcp" });
  rig.server.next.set(METHOD.ALLOCATE, [error(437)]);
  rig.call((client, io) => client.allocate(io));
  rig.advance(200);
  assertEquals([rig.client.state, rig.opened.length, rig.closed.length], ["allocated", 2, 1]);
});

Deno.test("RFC 8489 §10: a 300 leads to a new connection; the domain it names is what the certificate must have", () => {
  const next = TransportAddress.parse("198.51.100.99:5349");
  for (const domain of [undefined, "other.example.org"]) {
    const rig = new ClientRig({ transport: "tls", tls: TLS });
    rig.server.next.set(METHOD.ALLOCATE, [
      error(300, (writer) => {
        writer.add(ALTERNATE_SERVER, next);
        if (domain !== undefined) writer.add(ALTERNATE_DOMAIN, domain);
      }),
    ]);
    rig.call((client, io) => client.allocate(io));
    rig.advance(50);
    rig.serverAddress = next;
    rig.receive(rig.server.answer(StunMessage.parse(rig.sent.at(-1)!.bytes)!));
    rig.advance(200);
    const { remote, tls } = rig.opened[1] as unknown as { remote: TransportAddress; tls: typeof TLS };
    assertEquals([String(remote), tls.serverName], [String(next), domain ?? TLS.serverName]);
    assertEquals([rig.client.state, rig.closed.length], ["allocated", 1]);
  }
});
