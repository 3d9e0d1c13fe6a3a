// natkit connect --json that asks its router by UPnP, with the client of an npm package.
//
//   deno run -A --no-lock _upnp_agent.ts PACKAGE ROUTER ROLE     PACKAGE as npm:@achingbrain/nat-port-mapper@4.0.5
import { connectJson } from "../../cli/connect_json.ts";
import { denoTerminal } from "../../cli/terminal.ts";
import type { UpnpClient } from "../../ice/mod.ts";

const [name, gateway, role] = Deno.args as [string, string, "controlling" | "controlled"];
const { upnpNat } = await import(name);
const upnp: UpnpClient = upnpNat({ description: "natkit" });
Deno.exit(await connectJson({ portMapping: { gateway, upnp }, role, tcp: "none" }, denoTerminal()));
