import type { TransportAddress, UserCredential } from "../stun/mod.ts";

/** How long the web service may take, in ms: less than a client's request waits. */
const PATIENCE = 5000;

/**
 * Asks a web service who a user is: `POST` with `{"username", "realm", "client"}`. Its answer is 200 with `{"password"}`, or
 * with keys as `{"md5", "sha256"}` in hexadecimal, of which one may be missing; 403 or 404 means that there is no such user.
 * Anything else is a failure, after which the client will ask again.
 *
 * @param url The service's URL, http or https.
 * @param realm The server's realm.
 * @throws {SyntaxError} If the URL is none.
 */
export function authHook(
  url: string,
  realm: string,
): (username: string, client: TransportAddress) => Promise<UserCredential | undefined> {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    throw new SyntaxError(`Cannot ask for users at URL as it must begin with http:// or https://: "${url}"`);
  }
  return async (username, client) => {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ username, realm, client: client.address }),
      redirect: "error",
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (response.status === 200) return readCredential(await response.json());
    await response.body?.cancel();
    if (response.status === 403 || response.status === 404) return undefined;
    throw new Error(`Cannot find user as ${new URL(url).origin} answered with ${response.status}`);
  };
}

function readCredential(answer: unknown): UserCredential {
  const { password, md5, sha256 } = (answer ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof password === "string") return password;
  if (typeof md5 !== "string" && typeof sha256 !== "string") {
    throw new TypeError('Cannot use the answer about a user as it must have "password", "md5" or "sha256"');
  }
  return {
    ...(typeof md5 === "string" ? { md5: Uint8Array.fromHex(md5) } : {}),
    ...(typeof sha256 === "string" ? { sha256: Uint8Array.fromHex(sha256) } : {}),
  };
}
