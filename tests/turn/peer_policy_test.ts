import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { TransportAddress } from "../../stun/address.ts";
import { PeerPolicy, type PeerVerdict } from "../../turn/peer_policy.ts";

function judge(policy: PeerPolicy, ip: string, port = 5000): PeerVerdict {
  return policy.judge(TransportAddress.of(ip, port));
}

/** An IPv4 address in every IPv6 form that stands for it. */
function disguises(ip: string): Record<string, string> {
  const octets = ip.split(".").map(Number);
  const hex = (values: number[]) => values.map((value) => value.toString(16).padStart(2, "0")).join("");
  const [high, low] = [hex(octets.slice(0, 2)), hex(octets.slice(2))];
  const inverted = octets.map((octet) => octet ^ 0xff);
  return {
    mapped: `::ffff:${ip}`,
    translated: `::ffff:0:${ip}`,
    compatible: `::${high}:${low}`,
    "NAT64": `64:ff9b::${high}:${low}`,
    "6to4": `2002:${high}:${low}::1`,
    Teredo: `2001:0:4136:e378:8000:63bf:${hex(inverted.slice(0, 2))}:${hex(inverted.slice(2))}`,
  };
}

Deno.test("T33: by default only global unicast addresses are peers", () => {
  const policy = new PeerPolicy();
  const global = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "172.15.0.1",
  ];
  const others = ["172.32.0.1", "192.0.1.1", "192.167.0.1", "198.17.0.1", "198.20.0.1", "223.255.255.255"];
  const global6 = ["2606:4700::1111", "2a00:1450::1", "2400::1", "2001:200::1", "2003::1"];
  for (const ip of [...global, ...others, ...global6]) assertEquals(judge(policy, ip), "allowed", ip);
});

Deno.test("T33: by default no special-purpose IPv4 range is a peer, from its first address to its last", () => {
  const ranges = [
    ["0.0.0.0", "0.255.255.255"],
    ["10.0.0.0", "10.255.255.255"],
    ["100.64.0.0", "100.127.255.255"],
    ["127.0.0.0", "127.255.255.255"],
    ["169.254.0.0", "169.254.255.255"],
    ["172.16.0.0", "172.31.255.255"],
    ["192.0.0.0", "192.0.0.255"],
    ["192.0.2.0", "192.0.2.255"],
    ["192.88.99.0", "192.88.99.255"],
    ["192.168.0.0", "192.168.255.255"],
    ["198.18.0.0", "198.19.255.255"],
    ["198.51.100.0", "198.51.100.255"],
    ["203.0.113.0", "203.0.113.255"],
    ["224.0.0.0", "239.255.255.255"],
    ["240.0.0.0", "255.255.255.255"],
  ];
  const policy = new PeerPolicy();
  for (const ip of ranges.flat()) {
    assertEquals(judge(policy, ip), "refused", ip);
    for (const [kind, text] of Object.entries(disguises(ip))) {
      assertEquals(judge(policy, text), "refused", `${ip} ${kind}`);
    }
  }
});

Deno.test("T33: by default no special-purpose IPv6 range is a peer", () => {
  const ranges = ["::", "::1", "::2", "100::1", "64:ff9b:1::1", "1fff:ffff::1", "2001::1", "2001:2::1", "2001:10::1"];
  const others = [
    "2001:1ff:ffff::1",
    "2001:db8::1",
    "2002::1",
    "3ffe::1",
    "3fff::1",
    "3fff:fff::1",
    "4000::1",
    "5f00::1",
  ];
  const scoped = ["fc00::1", "fdff::1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "ffff::1"];
  const policy = new PeerPolicy();
  for (const ip of [...ranges, ...others, ...scoped]) assertEquals(judge(policy, ip), "refused", ip);
});

Deno.test("T33, RFC 8656 §21.4: of a global IPv4 address in disguise only NAT64 is a way there", () => {
  const policy = new PeerPolicy();
  const verdicts = Object.entries(disguises("8.8.8.8")).map(([kind, ip]) => [kind, judge(policy, ip)]);
  const refused = ["mapped", "translated", "compatible", "6to4", "Teredo"].map((kind) => [kind, "refused"]);
  assertEquals(Object.fromEntries(verdicts), Object.fromEntries([...refused, ["NAT64", "allowed"]]));
});

Deno.test("Ranges that are allowed by name are peers; ranges that are denied are none even so", () => {
  const policy = new PeerPolicy({
    allow: ["10.0.0.0/8", "127.0.0.1", "fd00::/8"],
    deny: ["10.1.0.0/16", "8.8.0.0/16"],
  });
  const expected: Record<string, PeerVerdict> = {
    "10.0.0.1": "allowed",
    "10.1.0.1": "refused",
    "127.0.0.1": "allowed",
    "127.0.0.2": "refused",
    "fd12::1": "allowed",
    "8.8.8.8": "refused",
    "8.9.8.8": "allowed",
  };
  for (const [ip, verdict] of Object.entries(expected)) assertEquals(judge(policy, ip), verdict, ip);
});

Deno.test("A denied range is denied in every disguise", () => {
  const policy = new PeerPolicy({ allow: ["::/0", "0.0.0.0/0"], deny: ["8.8.0.0/16", "64:ff9b::909:0/112"] });
  for (const [kind, ip] of Object.entries(disguises("8.8.8.8"))) assertEquals(judge(policy, ip), "refused", kind);
  assertEquals([judge(policy, "9.9.9.9"), judge(policy, "64:ff9b::909:909")], ["allowed", "refused"]);
});

Deno.test("T33: the unspecified address is the host itself, and no peer whatever is allowed", () => {
  const policy = new PeerPolicy({ allow: ["0.0.0.0/0", "::/0"] });
  for (const ip of ["0.0.0.0", "::", "::ffff:0.0.0.0"]) assertEquals(judge(policy, ip), "refused", ip);
});

Deno.test("T33: the server's own addresses are no peers, unless they are allowed by name", () => {
  const own = TransportAddress.parse("8.8.8.8:0");
  const policy = new PeerPolicy();
  policy.addOwnAddress(own);
  assertEquals([judge(policy, "8.8.8.8"), judge(policy, "64:ff9b::808:808")], ["refused", "refused"]);
  const allowing = new PeerPolicy({ allow: ["8.8.8.8"] });
  allowing.addOwnAddress(own);
  assertEquals(judge(allowing, "8.8.8.8"), "allowed");
});

Deno.test("T33: a listening socket is no peer, whatever is allowed and in whatever disguise", () => {
  const policy = new PeerPolicy({ allow: ["0.0.0.0/0", "::/0"] });
  policy.addListener(TransportAddress.parse("127.0.0.1:3478"));
  policy.addListener(TransportAddress.parse("[::1]:3478"));
  for (const ip of ["127.0.0.1", "::1", ...Object.values(disguises("127.0.0.1"))]) {
    assertEquals([judge(policy, ip, 3478), judge(policy, ip, 3479)], ["refused", "allowed"], ip);
  }
  assertEquals(judge(policy, "127.0.0.2", 3478), "allowed");
});

Deno.test("T33: a socket that listens everywhere is no peer at any of the host's addresses", () => {
  const policy = new PeerPolicy({ allow: ["0.0.0.0/0", "::/0"] });
  policy.addListener(TransportAddress.parse("0.0.0.0:3478"));
  policy.addOwnAddress(TransportAddress.parse("10.0.0.5:0"));
  for (const ip of ["127.0.0.1", "127.9.9.9", "::1", "10.0.0.5"]) assertEquals(judge(policy, ip, 3478), "refused", ip);
  assertEquals([judge(policy, "10.0.0.6", 3478), judge(policy, "10.0.0.5", 53)], ["allowed", "allowed"]);
});

Deno.test("A relay address of the server's own is told apart: its caller knows which ports are relayed", () => {
  const policy = new PeerPolicy({ deny: ["9.9.9.9"] });
  for (const ip of ["8.8.8.8", "9.9.9.9"]) policy.addRelayAddress(TransportAddress.of(ip, 0));
  policy.addListener(TransportAddress.parse("8.8.8.8:3478"));
  assertEquals([judge(policy, "8.8.8.8"), judge(policy, "8.8.8.8", 3478)], ["relay", "refused"]);
  assertEquals(policy.judgeAddress(TransportAddress.parse("8.8.8.8:3478")), "relay");
  assertEquals(judge(policy, "9.9.9.9"), "refused");
  assertEquals(
    judge(policy, "64:ff9b::808:808"),
    "refused",
    "Through NAT64 it would be another way than clients expect",
  );
});

Deno.test("Ranges that are none are refused at once, by name", () => {
  for (
    const text of [
      "10.0.0.0/33",
      "10.0.0/8",
      "10.1/16",
      "0x7f.1",
      "fd00::/129",
      "example.org",
      "",
      "10.0.0.0/",
      "1.2.3.4/x",
      "10.0.0.0/8:",
      "10.0.0.0/8:0",
      "10.0.0.0/8:65536",
      "10.0.0.0/8:6-5",
      "10.0.0.0/8:5-6-7",
      "[10.0.0.0/8]:5",
      "[2001:db8::/32",
      "[]:5",
    ]
  ) {
    const error = assertThrows(() => new PeerPolicy({ allow: [text] }), SyntaxError);
    assertEquals(error.message.endsWith(`"${text}"`), true, error.message);
  }
});

Deno.test("T33: of any address at all the verdict is one of three, and never allowed for IPv4 in a refused disguise", () => {
  const policy = new PeerPolicy();
  fc.assert(fc.property(fc.uint8Array({ minLength: 4, maxLength: 4 }), (octets) => {
    const ip = octets.join(".");
    const plain = judge(policy, ip);
    for (const [kind, text] of Object.entries(disguises(ip))) {
      assertEquals(judge(policy, text), kind === "NAT64" ? plain : "refused", `${ip} ${kind}`);
    }
  }));
});

Deno.test("Ranges with ports: allowed on these ports only, denied on these ports only", () => {
  const policy = new PeerPolicy({
    allow: ["10.0.0.0/8:5000-6000", "10.1.2.3", "[fd00::/8]:53", "[fd00::1]", "127.0.0.1:9"],
    deny: ["10.0.0.5:5555", "8.8.8.8:53", "[2606:4700::/32]:25"],
  });
  const verdicts = (address: string, ...ports: number[]) =>
    ports.map((port) => policy.judge(TransportAddress.of(address, port)));
  assertEquals(verdicts("10.9.9.9", 4999, 5000, 6000, 6001), ["refused", "allowed", "allowed", "refused"]);
  assertEquals(verdicts("::ffff:10.9.9.9", 4999, 5000), ["refused", "allowed"]);
  assertEquals(verdicts("10.1.2.3", 1, 65535), ["allowed", "allowed"]);
  assertEquals(verdicts("10.0.0.5", 5554, 5555, 5556), ["allowed", "refused", "allowed"]);
  assertEquals(verdicts("fd00::9", 52, 53), ["refused", "allowed"]);
  assertEquals(verdicts("fd00::1", 52), ["allowed"]);
  assertEquals(verdicts("127.0.0.1", 8, 9), ["refused", "allowed"]);
  assertEquals(verdicts("8.8.8.8", 53, 54), ["refused", "allowed"]);
  assertEquals(verdicts("64:ff9b::808:808", 53, 54), ["refused", "allowed"]);
  assertEquals(verdicts("2606:4700::1", 25, 26), ["refused", "allowed"]);
});

Deno.test("RFC 8656 §9: a permission is for all ports, so it is given where any port is good", () => {
  const policy = new PeerPolicy({ allow: ["10.0.0.0/8:5000"], deny: ["8.8.8.8:53", "10.6.0.0/16"] });
  const verdict = (text: string) => policy.judgeAddress(TransportAddress.of(text, 1));
  assertEquals(["10.0.0.1", "8.8.8.8", "10.6.0.1", "192.168.0.1"].map(verdict), [
    "allowed",
    "allowed",
    "refused",
    "refused",
  ]);
});

Deno.test("T33: broadcast and NAT64's local prefix (RFC 8215) are no peers", () => {
  const policy = new PeerPolicy();
  for (const address of ["255.255.255.255", "64:ff9b:1::808:808", "::ffff:255.255.255.255", "ff02::1", "224.0.0.1"]) {
    assertEquals(policy.judge(TransportAddress.of(address, 5000)), "refused", address);
  }
});
