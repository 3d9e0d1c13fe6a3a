// A STUN server for the tests that need it in a process of its own: `_stun_server.ts ADDRESS...`. Says "ready", ends with
// its stdin.
import { serveStun } from "../../stun/serve.ts";

await using service = serveStun({ listen: Deno.args, classic: true });
await Deno.stdout.write(new TextEncoder().encode(`ready ${service.addresses.join(" ")}\n`));
for await (const _ of Deno.stdin.readable) {
  // Waits for the end.
}
