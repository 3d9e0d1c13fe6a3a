// Addresses that others know by other addresses, and addresses that are nobody's business (I39).
import { assert, assertEquals, assertThrows } from "@std/assert";
import { type AddressRule, openIce, type OpenIceOptions, parseDescription } from "../../ice/mod.ts";
import { addressMapper } from "../../ice/address_rules.ts";
import { TransportAddress } from "../../stun/address.ts";
import { NAT_TYPES, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { serveTurn } from "../../turn/serve.ts";
import { SERVER } from "./meeting.ts";

const PRIVATE = "10.0.0.5";
const PUBLIC = "203.0.113.9";
const STUN = { stunServers: [`stun:${SERVER}`] };
const TURN = { turnServers: [{ urls: `turn:${SERVER}`, username: "alice", credential: "secret" }] };
const INTERFACES = [
  { name: "lo", address: "127.0.0.1" },
  { name: "eth0", address: PRIVATE },
  { name: "eth1", address: "10.1.0.5" },
  { name: "eth1", address: "2001:db8::5" },
];

const map = (rules: readonly AddressRule[], address: string) => {
  const mapping = addressMapper(rules, () => INTERFACES)(TransportAddress.of(address, 5000));
  return mapping && `${mapping.mode} ${mapping.as} ${mapping.to.map(({ address }) => address)}`;
};

Deno.test("Address rules: by address, range or interface, by IP version; the first that fits holds", () => {
  const rules: AddressRule[] = [
    { from: PRIVATE, to: "203.0.113.1" },
    { from: "10.0.0.0/8", to: ["203.0.113.2", "2001:db8::2"], mode: "append" },
    { from: "eth1", to: "2001:db8::3", as: "srflx" },
    { to: "203.0.113.4", as: "srflx", mode: "replace" },
  ];
  assertEquals([PRIVATE, "10.1.0.5", "2001:db8::5", "192.0.2.1", "2001:db8::6"].map((text) => map(rules, text)), [
    "replace host 203.0.113.1",
    "append host 203.0.113.2",
    "append srflx 2001:db8::3",
    "replace srflx 203.0.113.4",
    undefined,
  ]);
});

Deno.test("Address rules that cannot be read say why", () => {
  assertThrows(() => map([{ from: "10.0.0.0/99", to: PUBLIC }], PRIVATE), SyntaxError, '"10.0.0.0/99" is no range');
  assertThrows(() => map([{ to: "public" }], PRIVATE), SyntaxError, '"public" is no IP address');
  assertThrows(() => openIce({ bind: ["127.0.0.1"], addressRules: [{ to: "" }] }), SyntaxError, "no IP address");
});

interface Cloud {
  /** The candidate lines without foundation, priority and port, and whether they connected. */
  readonly lines: string[];
  readonly path: string;
  /** Everything that was signalled and counted. */
  readonly text: string;
  /** Binding requests that the STUN server got. */
  readonly asked: number;
}

/** A server in a cloud, behind a 1:1 mapping that keeps ports, meets a client behind a symmetric NAT. */
async function inCloud(options: OpenIceOptions): Promise<Cloud> {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const serverHost = world.addHost("server", { addresses: [SERVER] });
  const edge = world.addNat("edge", { external: [PUBLIC], ...NAT_TYPES["full cone"] });
  const host = edge.addHost("cloud", { addresses: [PRIVATE] });
  const client = world.addNat("home", { external: ["203.0.113.77"], ...NAT_TYPES.symmetric })
    .addHost("client", { addresses: ["192.168.1.2"] });
  return await world.run(async () => {
    await using server = serveTurn({
      ...{ host: serverHost, listen: [`${SERVER}:3478`], realm: "example.org", users: { alice: "secret" } },
      allowPeers: ["203.0.113.0/24", "198.51.100.0/24"],
    });
    await using a = openIce({ host, role: "controlling", tcp: "none", ...options });
    await using b = openIce({ host: client, role: "controlled", tcp: "none", ...STUN });
    await b.localDescription();
    const description = await a.localDescription("sdp");
    const asked = server.stats().bindings - 1;
    b.addRemoteDescription(description);
    a.addRemoteDescription(await b.localDescription());
    const [pair] = await Promise.all([a.nominated, b.nominated]).catch(() => []);
    const { candidates } = parseDescription(description);
    const lines = candidates.map(({ type, address, relatedAddress }) =>
      [type, address!.address, ...(relatedAddress === undefined ? [] : [relatedAddress.address])].join(" ")
    );
    const path = pair === undefined ? "none" : `${pair.local.type} ${pair.local.address.address}`;
    return {
      lines,
      path,
      text: description + JSON.stringify(a.stats(), (_, v) => typeof v === "bigint" ? `${v}` : v),
      asked,
    };
  });
}

Deno.test("A cloud server that knows its public address needs no STUN: a host candidate in place of the private one", async () => {
  const { lines, path, text } = await inCloud({ addressRules: [{ to: PUBLIC }] });
  assertEquals([lines, path], [[`host ${PUBLIC}`], `host ${PUBLIC}`]);
  assert(!text.includes(PRIVATE), text);
});

Deno.test("Append: the public address as a second host candidate, with a foundation of its own", async () => {
  const { lines, path } = await inCloud({ addressRules: [{ from: "10.0.0.0/8", to: PUBLIC, mode: "append" }] });
  assertEquals([lines, path], [[`host ${PRIVATE}`, `host ${PUBLIC}`], `host ${PUBLIC}`]);
});

Deno.test("As server-reflexive: in addition to what STUN tells, or in its place, and then nobody is asked", async () => {
  const appended = await inCloud({ ...STUN, addressRules: [{ to: PUBLIC, as: "srflx" }] });
  assertEquals(appended.lines, [`host ${PRIVATE}`, `srflx ${PUBLIC} ${PRIVATE}`]);
  assertEquals([appended.path, appended.asked], [`srflx ${PUBLIC}`, 1]);
  const replaced = await inCloud({ ...STUN, addressRules: [{ to: PUBLIC, as: "srflx", mode: "replace" }] });
  assertEquals([replaced.lines, replaced.path, replaced.asked], [appended.lines, appended.path, 0]);
});

Deno.test("I39: a replaced address is in no related address of reflexive and relayed candidates, and not in the statistics", async () => {
  const { lines, path, text } = await inCloud({ ...STUN, ...TURN, addressRules: [{ to: "203.0.113.200" }] });
  // The rule is wrong here, so that STUN tells another address.
  assertEquals(lines, ["host 203.0.113.200", `srflx ${PUBLIC} 0.0.0.0`, `relay ${SERVER} ${PUBLIC}`]);
  assertEquals(path, `srflx ${PUBLIC}`);
  assert(!text.includes(PRIVATE), text);
});

Deno.test("I39: with a filter, nothing that is signalled or counted has an address that it refuses; the path is found all the same", async () => {
  const hosts = await inCloud({ ...STUN, ...TURN, candidateFilter: ({ type }) => type !== "host" });
  assertEquals(hosts.lines, [`srflx ${PUBLIC} 0.0.0.0`, `relay ${SERVER} ${PUBLIC}`]);
  assertEquals(hosts.path, `srflx ${PUBLIC}`);
  assert(!hosts.text.includes(PRIVATE), hosts.text);
  const relays = await inCloud({ ...STUN, ...TURN, candidateFilter: ({ type }) => type === "relay" });
  assertEquals(relays.lines, [`relay ${SERVER} 0.0.0.0`]);
  assert(!relays.text.includes(PRIVATE) || relays.text.split('203.0.113.9"').length > 1, relays.text);
  assertEquals(relays.path, `relay ${SERVER}`);
});
