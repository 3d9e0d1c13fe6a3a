// RFC 7635 with both sides of natkit, in virtual time.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type AccessToken, sealAccessToken, TokenUsers } from "../../stun/access_token.ts";
import { LongTermCredentials } from "../../stun/credentials.ts";
import { type VirtualHost, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import {
  allocate,
  type AllocateOptions,
  serveTurn,
  type ServeTurnOptions,
  TurnClient,
  TurnError,
} from "../../turn/mod.ts";
import { TransportAddress } from "../../stun/address.ts";

const SERVER = "198.51.100.1:3478";
const NAME = "turn.example.org";
const KEYS: [string, Uint8Array][] = [["a", new Uint8Array(16).fill(1)], ["b", new Uint8Array(32).fill(2)]];

/** An authorization server. */
class Authority {
  readonly #host: VirtualHost;
  readonly #lifetime: number;
  issued = 0;
  /** Which key it makes tokens with. */
  key = 0;

  constructor(host: VirtualHost, lifetime: number) {
    this.#host = host;
    this.#lifetime = lifetime;
  }

  issue(): AccessToken {
    const timestamp = this.#host.unixTime();
    const macKey = new Uint8Array(20).fill(++this.issued);
    const nonce = new Uint8Array(12).fill(this.issued);
    const [kid, key] = KEYS[this.key]!;
    const token = sealAccessToken(key, { serverName: NAME, nonce, macKey, timestamp, lifetime: this.#lifetime });
    return { kid, macKey, token, expires: timestamp + this.#lifetime };
  }
}

function place(lifetime = 3600) {
  const world = new VirtualWorld({ seed: 1, link: { delay: 5 } });
  const server = world.addHost("server", { addresses: ["198.51.100.1"] });
  const host = world.addHost("client", { addresses: ["203.0.113.1"] });
  const tokens = new TokenUsers({ serverName: NAME, keys: KEYS });
  const authority = new Authority(host, lifetime);
  const serve = (options: Partial<ServeTurnOptions> = {}) =>
    serveTurn({ host: server, listen: [SERVER], realm: "example.org", users: {}, tokens, ...options });
  const open = (options: Partial<AllocateOptions>) => allocate({ host, server: `turn:${SERVER}`, ...options });
  return { world, authority, tokens, serve, open };
}

Deno.test("RFC 7635: a relay with an access token works as any other, and ends with it", async () => {
  const { world, authority, serve, open } = place();
  await world.run(async () => {
    await using server = serve();
    await using one = await open({ accessToken: authority.issue() });
    await using other = await open({ accessToken: authority.issue() });
    await Promise.all([one.permit(other.relayedAddress), other.bindChannel(one.relayedAddress)]);
    other.send(one.relayedAddress, Uint8Array.of(7));
    const { value } = await one[Symbol.asyncIterator]().next();
    assertEquals(value!.data, Uint8Array.of(7));
    await world.sleep(3_550_000);
    assertEquals(server.stats().allocations, 2);
    await world.sleep(60_000);
    assertEquals(server.stats().allocations, 0);
    await assertRejects(() => one.permit(other.relayedAddress), Error, "the allocation is lost");
  }, { limit: Infinity });
});

Deno.test("RFC 7635: with a function, there is another token each time before the last one ends, also with another key", async () => {
  for (const anonymity of [false, true]) {
    const { world, authority, tokens, serve, open } = place(1800);
    await world.run(async () => {
      await using server = serve({ anonymity });
      let asked = 0;
      const accessToken = () => {
        // Every third time there is none, and it is asked again.
        if (++asked % 3 === 0) return Promise.reject(new Error("The authorization server is away"));
        return Promise.resolve(authority.issue());
      };
      await using relay = await open({ accessToken, mobility: true });
      await using peer = await open({ accessToken });
      await peer.permit(relay.relayedAddress);
      for (let hour = 0; hour < 12; hour++) {
        authority.key = hour < 4 ? 0 : 1;
        if (hour === 8) tokens.setKeys(KEYS.slice(1));
        await world.sleep(3_600_000);
        relay.send(peer.relayedAddress, Uint8Array.of(hour));
        const { value } = await peer[Symbol.asyncIterator]().next();
        assertEquals(value!.data, Uint8Array.of(hour));
        if (hour % 3 === 0) await relay.migrate();
      }
      const { allocations, allocationsTotal, errors } = server.stats();
      assertEquals([allocations, allocationsTotal], [2, 2]);
      // Two challenges, and nothing else but nonces that have ended or are another address's.
      assertEquals(Object.keys(errors), ["401", "438"]);
      assertEquals(errors["401"], 2);
      assert(authority.issued > 40);
    }, { limit: Infinity });
  }
});

Deno.test("RFC 7635: what a server says to a token that it does not take, and to nobody's", async () => {
  const { world, authority, serve, open } = place();
  await world.run(async () => {
    await using _server = serve();
    const { macKey, ...token } = authority.issue();
    const wrong = await assertRejects(() => open({ accessToken: { ...token, macKey: new Uint8Array(20) } }), TurnError);
    assertEquals([wrong.code, macKey.length], [401, 20]);
    const nobody = await assertRejects(() => open({}), TurnError);
    assertEquals(nobody.message.includes('or an access token for "turn.example.org"'), true);
    const away = () => Promise.reject(new Error("The authorization server is away"));
    await assertRejects(() => open({ accessToken: away }), Error, "is away");
  });
});

Deno.test("LongTermCredentials, TurnClient: tokens that can not be", () => {
  const token = { kid: "a", macKey: new Uint8Array(20), token: new Uint8Array(40) };
  for (const wrong of [{ macKey: new Uint8Array() }, { token: new Uint8Array() }, { kid: "a".repeat(509) }]) {
    assertThrows(() => LongTermCredentials.withToken({ ...token, ...wrong }), RangeError);
  }
  assertThrows(() => LongTermCredentials.withToken({ ...token, kid: "" }), SyntaxError);
  const server = TransportAddress.parse(SERVER);
  const credentials = { username: "alice", password: "secret" };
  assertThrows(() => new TurnClient({ server, credentials, accessToken: token }), TypeError, "together");
});
