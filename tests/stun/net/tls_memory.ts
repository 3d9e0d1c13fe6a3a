// Run by tls_memory_test.ts with --expose-gc: handshakes that strangers begin and break off. Prints the bytes that each left.
import { serveStun } from "../../../stun/serve.ts";

const { gc } = globalThis as unknown as { gc(): void };
const read = (name: string) => Deno.readTextFileSync(new URL(`../../vectors/tls/${name}.pem`, import.meta.url));
const server = serveStun({ listen: ["127.0.0.1:0"], tls: { certificate: read("one"), key: read("one_key") } });
const { port } = server.addresses[0]!;
const buffer = new Uint8Array(16);

/** The beginning of a ClientHello, and then nothing more. */
async function breakOff(): Promise<void> {
  const connection = await Deno.connect({ port });
  await connection.write(Uint8Array.of(0x16, 3, 1, 0, 100));
  await connection.closeWrite();
  // Until the server is done with it.
  while (await connection.read(buffer).catch(() => null) !== null);
  connection.close();
}

async function live(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    gc();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return Deno.memoryUsage().heapUsed;
}

const COUNT = 200;
for (let i = 0; i < 20; i++) await breakOff();
const before = await live();
for (let i = 0; i < COUNT; i++) await breakOff();
const after = await live();
await server.shutdown();
await Deno.stdout.write(new TextEncoder().encode(`${Math.round((after - before) / COUNT)}\n`));
