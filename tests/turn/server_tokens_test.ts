// RFC 7635, the server's side: clients with an access token of an authorization server.
import { assertEquals } from "@std/assert";
import { sealAccessToken, TokenUsers } from "../../stun/access_token.ts";
import { TransportAddress } from "../../stun/address.ts";
import {
  ACCESS_TOKEN,
  NONCE,
  PASSWORD_ALGORITHM,
  PASSWORD_ALGORITHMS,
  REALM,
  THIRD_PARTY_AUTHORIZATION,
  UNKNOWN_ATTRIBUTES,
  USERNAME,
} from "../../stun/attributes.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { LIFETIME, MOBILITY_TICKET, XOR_PEER_ADDRESS } from "../../turn/attributes.ts";
import type { TurnServerOptions } from "../../turn/server.ts";
import {
  addTransport,
  type Attributes,
  CLIENT,
  codeOf,
  PEER,
  REALM_NAME,
  type RigClient,
  ServerRig,
} from "./_server_rig.ts";

const NAME = "turn.example.org";
const KEYS = { one: new Uint8Array(16).fill(1), two: new Uint8Array(32).fill(2) } as const;
type Kid = keyof typeof KEYS;

/** A token and who has it. */
interface Holder {
  readonly kid: Kid;
  readonly macKey: Uint8Array;
  readonly token: Uint8Array;
}

function rigWithTokens(options: Partial<TurnServerOptions> = {}): ServerRig {
  return new ServerRig({ tokens: new TokenUsers({ serverName: NAME, keys: Object.entries(KEYS) }), ...options });
}

let made = 0;

/** A token made `age` seconds ago. */
function issue(
  rig: ServerRig,
  { kid = "two" as Kid, lifetime = 3600, age = 0, length = 20, name = NAME } = {},
): Holder {
  const nonce = new Uint8Array(12).fill(++made);
  const macKey = new Uint8Array(length).map((_, i) => i + made);
  const timestamp = rig.io.unixTime - age;
  return { kid, macKey, token: sealAccessToken(KEYS[kid], { serverName: name, nonce, macKey, timestamp, lifetime }) };
}

interface SignOptions {
  readonly withToken?: boolean;
  readonly hash?: "sha1" | "sha256";
  readonly key?: Uint8Array;
}

function build(client: RigClient, method: number, holder: Holder, attributes: Attributes, options: SignOptions = {}) {
  const { withToken = method === METHOD.ALLOCATE || method === METHOD.REFRESH, hash = "sha1", key = holder.macKey } =
    options;
  const writer = new MessageWriter(new Uint8Array(1024)).begin(method, "request", client.rig.newTransactionId());
  attributes(writer);
  if (withToken) writer.add(ACCESS_TOKEN, holder.token);
  writer.add(USERNAME, holder.kid).add(REALM, REALM_NAME).add(NONCE, client.nonce);
  if (hash === "sha256") {
    const parameters = new Uint8Array();
    const offer = [{ algorithm: 2, parameters }, { algorithm: 1, parameters }];
    writer.add(PASSWORD_ALGORITHM, offer[0]!).add(PASSWORD_ALGORITHMS, offer);
  }
  return writer.addIntegrity(new IntegrityKey(key), hash).finish();
}

/** Sends a request that is signed with a token's key. Gives the answer, which must be signed with it, unless it is a 401. */
function ask(
  client: RigClient,
  method: number,
  holder: Holder,
  attributes: Attributes = () => {},
  options?: SignOptions,
) {
  if (client.nonce === "") client.challenge();
  const answer = client.ask(build(client, method, holder, attributes, options));
  if (codeOf(answer) !== 401) {
    assertEquals(answer.verifyIntegrity(new IntegrityKey(options?.key ?? holder.macKey)), true);
  }
  return answer;
}

function allocate(client: RigClient, holder: Holder, attributes: Attributes = () => {}, options?: SignOptions) {
  return ask(client, METHOD.ALLOCATE, holder, (writer) => attributes(addTransport(writer)), options);
}

function permit(client: RigClient, holder: Holder, options?: SignOptions): number {
  return codeOf(ask(client, METHOD.CREATE_PERMISSION, holder, (writer) => writer.add(XOR_PEER_ADDRESS, PEER), options));
}

Deno.test("RFC 7635 §6.1: a 401 tells the server's name to authorization servers, a 438 does not, nor who takes no tokens", () => {
  const rig = rigWithTokens();
  const client = rig.client();
  assertEquals(client.challenge().get(THIRD_PARTY_AUTHORIZATION), NAME);
  client.nonce = "stale";
  const stale = allocate(client, issue(rig));
  assertEquals([codeOf(stale), stale.has(THIRD_PARTY_AUTHORIZATION)], [438, false]);
  assertEquals(new ServerRig().client().challenge().has(THIRD_PARTY_AUTHORIZATION), false);
});

Deno.test("RFC 7635: who has a token allocates, with SHA-1 and SHA-256, a key of any length, and the first 16 bytes of it", () => {
  const rig = rigWithTokens();
  const cases = [
    { holder: issue(rig) },
    { holder: issue(rig, { kid: "one", length: 32 }) },
    { holder: issue(rig, { length: 32 }), options: { hash: "sha256" as const } },
    { holder: issue(rig, { length: 16 }) },
  ];
  for (const [i, { holder, options }] of cases.entries()) {
    assertEquals(codeOf(allocate(rig.client(CLIENT.withPort(50_000 + i)), holder, undefined, options)), 0);
  }
  const holder = issue(rig, { length: 32 });
  const short = { key: holder.macKey.subarray(0, 16) };
  const client = rig.client(CLIENT.withPort(60_000));
  assertEquals([codeOf(allocate(client, holder, undefined, short)), permit(client, holder, short)], [0, 0]);
  assertEquals(rig.server.counters.allocations, 5);
});

Deno.test("RFC 7635: 401 for a token of another key, for another server, of another time, and for another key than the token's", () => {
  const rig = rigWithTokens();
  const client = rig.client();
  const wrong: [Holder, SignOptions?][] = [
    [{ ...issue(rig), kid: "one" }],
    [{ ...issue(rig), kid: "three" as Kid }],
    [issue(rig, { name: "other.example.org" })],
    [issue(rig, { age: 3605 })],
    [issue(rig, { age: -3605 })],
    [{ ...issue(rig), token: new Uint8Array() }],
    [{ ...issue(rig), token: new Uint8Array(300) }],
    [issue(rig), { key: new Uint8Array(20) }],
    [issue(rig), { withToken: false }],
  ];
  for (const [holder, options] of wrong) {
    const answer = allocate(client, holder, undefined, options);
    assertEquals([codeOf(answer), answer.get(THIRD_PARTY_AUTHORIZATION)], [401, NAME]);
  }
  assertEquals(codeOf(allocate(client, issue(rig, { age: 3604 }))), 0);
});

Deno.test("RFC 7635: a server that takes no tokens does not know the attribute", () => {
  const rig = new ServerRig();
  const client = rig.client();
  client.challenge();
  const answer = client.request(METHOD.ALLOCATE, (writer) => addTransport(writer).add(ACCESS_TOKEN, new Uint8Array(4)));
  assertEquals([codeOf(answer), answer.get(UNKNOWN_ATTRIBUTES)], [420, [ACCESS_TOKEN.type]]);
});

Deno.test("RFC 7635: passwords go on as before beside tokens", () => {
  const rig = rigWithTokens();
  const client = rig.client();
  client.mustAllocate();
  assertEquals([client.permit(PEER), codeOf(client.refresh(0))], [0, 0]);
});

Deno.test("RFC 7635: no allocation lasts longer than its token, and another token makes it last", () => {
  const rig = rigWithTokens();
  const client = rig.client();
  const first = issue(rig, { lifetime: 300 });
  assertEquals(allocate(client, first, (writer) => writer.add(LIFETIME, 3600)).get(LIFETIME), 305);
  rig.advance(100_000);
  // Without a token it is that of before; its own time counts.
  const plain = ask(client, METHOD.REFRESH, first, undefined, { withToken: false });
  assertEquals(plain.get(LIFETIME), 205);
  rig.advance(100_000);
  const second = issue(rig, { lifetime: 4000 });
  const refreshed = ask(client, METHOD.REFRESH, second, (writer) => writer.add(LIFETIME, 3600));
  assertEquals(refreshed.get(LIFETIME), 3600);
  rig.advance(200_000);
  assertEquals(rig.server.counters.allocations, 1);
  // The key of the token before is good for what may still be under way, and no token from before that.
  assertEquals([permit(client, second), permit(client, first)], [0, 0]);
  ask(client, METHOD.REFRESH, issue(rig));
  assertEquals([permit(client, second), permit(client, first)], [0, 401]);
  rig.advance(600_000);
  assertEquals(rig.leftovers, {});
});

Deno.test("RFC 7635: what ends with its token ends to the second", () => {
  const rig = rigWithTokens();
  const client = rig.client();
  allocate(client, issue(rig, { lifetime: 700, age: 699 }));
  rig.advance(5_999);
  assertEquals(rig.server.counters.allocations, 1);
  rig.advance(1);
  assertEquals(rig.leftovers, {});
});

Deno.test("RFC 7635: in between, requests need no token, but its key", () => {
  const rig = rigWithTokens();
  const client = rig.client();
  const holder = issue(rig);
  allocate(client, holder);
  assertEquals([permit(client, holder), permit(client, holder, { withToken: true })], [0, 0]);
  assertEquals(permit(client, issue(rig)), 401);
  assertEquals(client.permit(PEER), 401);
});

Deno.test("RFC 7635: a token of another key of the server is good for the same allocation: keys are replaced", () => {
  const tokens = new TokenUsers({ serverName: NAME, keys: [["one", KEYS.one]] });
  const rig = rigWithTokens({ tokens });
  const client = rig.client();
  const old = issue(rig, { kid: "one" });
  allocate(client, old);
  tokens.setKeys(Object.entries(KEYS));
  const young = issue(rig);
  assertEquals(codeOf(ask(client, METHOD.REFRESH, young)), 0);
  tokens.setKeys([["two", KEYS.two]]);
  assertEquals([permit(client, young), codeOf(ask(client, METHOD.REFRESH, old))], [0, 401]);
  // But no password's: that is another user.
  client.nonce = "";
  assertEquals(rig.client(CLIENT, "alice").code(METHOD.REFRESH), 401);
});

Deno.test("RFC 7635: limits count for each token, whoever has the key", () => {
  const rig = rigWithTokens({ limits: { allocationsPerUser: 1 } });
  const [one, other] = [issue(rig), issue(rig)];
  assertEquals(codeOf(allocate(rig.client(CLIENT.withPort(1)), one)), 0);
  assertEquals(codeOf(allocate(rig.client(CLIENT.withPort(2)), one)), 486);
  const client = rig.client(CLIENT.withPort(3));
  assertEquals(codeOf(allocate(client, other)), 0);
  // Also after another token: it is the first one's to the end.
  ask(client, METHOD.REFRESH, issue(rig));
  ask(client, METHOD.REFRESH, issue(rig), (writer) => writer.add(LIFETIME, 0));
  assertEquals(codeOf(allocate(client, other)), 0);
  rig.advance(600_000);
  assertEquals(rig.leftovers, {});
});

Deno.test("RFC 8016 §3.2.2, RFC 7635: a ticket is good with the key of the token, not with another token of the same kid", () => {
  const rig = rigWithTokens();
  const holder = issue(rig);
  const ticket = allocate(rig.client(), holder, (writer) => writer.add(MOBILITY_TICKET, new Uint8Array()))
    .get(MOBILITY_TICKET)!.slice();
  const moved = rig.client(TransportAddress.parse("203.0.113.9:41000"));
  const move = (holder: Holder, options?: SignOptions) =>
    codeOf(ask(moved, METHOD.REFRESH, holder, (writer) => writer.add(MOBILITY_TICKET, ticket), options));
  assertEquals([move(issue(rig)), move(holder)], [441, 0]);
});

Deno.test("RFC 7635: any bytes as a token are 401 and no exception", () => {
  const rig = rigWithTokens({ challengeRate: false });
  const client = rig.client();
  const holder = issue(rig);
  client.challenge();
  for (let length = 0; length < holder.token.length; length++) {
    const answer = client.send(
      build(client, METHOD.ALLOCATE, { ...holder, token: holder.token.slice(0, length) }, addTransport),
    );
    assertEquals(codeOf(StunMessage.parse(answer[0]!.bytes)!), 401);
  }
});
