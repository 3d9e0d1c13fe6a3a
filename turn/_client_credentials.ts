import { LongTermCredentials } from "../stun/credentials.ts";
import type { TurnClientOptions } from "./client_options.ts";

/**
 * What a client authenticates with, if anything.
 *
 * @throws {TypeError} If there are two things.
 */
export function credentialsOf({ credentials, accessToken }: TurnClientOptions): LongTermCredentials | undefined {
  if (accessToken !== undefined && credentials !== undefined) {
    throw new TypeError("Cannot use an access token together with user name and password");
  }
  if (accessToken !== undefined) return LongTermCredentials.withToken(accessToken);
  return credentials && new LongTermCredentials(credentials.username, credentials.password);
}
