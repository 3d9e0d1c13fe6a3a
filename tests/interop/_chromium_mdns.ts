// Runs in a network of its own: Chromium as it comes, which hides its addresses, and natkit. Prints what both say.
import { Chromium } from "./_chromium.ts";
import { meet } from "./_chromium_ice.ts";

const results = [];
await using browser = await Chromium.launch();
for (const offerer of ["natkit", "chromium"] as const) {
  for (const onlyFrom of ["natkit", "chromium"] as const) {
    const filter = (sdp: string, from: string) =>
      from === onlyFrom ? sdp : sdp.replace(/a=(candidate|end-of-candidates).*\r\n/g, "");
    const meeting = await meet(browser, { offerer, ice: { mdns: "hide" }, filter });
    results.push({ offerer, onlyFrom, ...meeting });
  }
}
await Deno.stdout.write(new TextEncoder().encode(`${JSON.stringify(results)}\n`));
