import type { TlsClientOptions } from "../stun/mod.ts";
import type { Options } from "./config.ts";
import { UsageError } from "./terminal.ts";

/** How a client command uses TLS: by `--ca FILE`, `--server-name NAME` and `--insecure`. */
export async function tlsOptions(options: Options): Promise<TlsClientOptions> {
  const [file, serverName] = [options.value("ca"), options.value("server-name")];
  return {
    ...file !== undefined && { ca: [await readFile(file)] },
    ...serverName !== undefined && { serverName },
    insecureAcceptAnyCertificate: options.flag("insecure"),
  };
}

async function readFile(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    throw new UsageError(`Option --ca: cannot read "${path}": ${error instanceof Error ? error.message : error}`);
  }
}
