import { isIpAddress, type TransportAddress } from "../address.ts";
import { OPENSSL_DTLS } from "./_openssl_dtls.ts";
import { connectDenoStream, listenDenoStream } from "./tcp.ts";
import { findGateway } from "./gateway.ts";
import { openDenoGroup } from "./multicast.ts";
import { ipv6Flags } from "./ipv6_flags.ts";
import type { Host, HostTimer, LocalInterface } from "./transport.ts";
import { openDenoDatagram } from "./udp.ts";

// setTimeout takes a 32-bit count; a later deadline is reached in steps.
const LONGEST_WAIT = 2 ** 31 - 1;

/** What `denoHost()` may be told. */
export interface DenoHostOptions {
  /** The DNS server to ask. Default: the system's. */
  readonly nameServer?: TransportAddress;
}

/**
 * The computer that Deno runs on. Needs `--unstable-net` and `--allow-net`, and `--allow-sys=networkInterfaces` for
 * `interfaces()`.
 */
export function denoHost(options: DenoHostOptions = {}): Host {
  const { nameServer } = options;
  const server = nameServer === undefined ? {} : { nameServer: { ipAddr: nameServer.address, port: nameServer.port } };
  return {
    now: () => performance.now(),
    unixTime: () => Date.now() / 1000,
    random: { fill: (bytes) => void crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>) },
    createTimer: (ring) => new DenoTimer(ring),
    openDatagram: openDenoDatagram,
    openGroup: openDenoGroup,
    connectStream: connectDenoStream,
    listenStream: listenDenoStream,
    dtls: OPENSSL_DTLS,
    interfaces: localInterfaces,
    resolve: (name, signal) => resolveName(name, lookup(server, signal)),
    gateway: findGateway,
    resolveSrv: (name, signal) => Deno.resolveDns(name, "SRV", lookup(server, signal)).catch(none),
    resolveNaptr: (name, signal) => Deno.resolveDns(name, "NAPTR", lookup(server, signal)).catch(none),
  };
}

function localInterfaces(): LocalInterface[] {
  const flags = ipv6Flags();
  return Deno.networkInterfaces().map(({ name, address: text }) => {
    const address = text.split("%")[0]!;
    return { name, address, ...flags.get(address) };
  });
}

class DenoTimer implements HostTimer {
  #ring: () => void;
  #at = Infinity;
  #armedFor = Infinity;
  #id: ReturnType<typeof setTimeout> | undefined;

  constructor(ring: () => void) {
    this.#ring = ring;
  }

  set(at: number): void {
    this.#at = at;
    // A timer that rings too early re-arms itself: cheaper than moving it for every packet.
    if (at === Infinity) {
      if (this.#id !== undefined) clearTimeout(this.#id);
      this.#id = undefined;
      this.#armedFor = Infinity;
    } else if (at < this.#armedFor) this.#arm();
  }

  #arm(): void {
    if (this.#id !== undefined) clearTimeout(this.#id);
    this.#armedFor = this.#at;
    const wait = Math.min(LONGEST_WAIT, Math.max(0, this.#at - performance.now()));
    this.#id = setTimeout(() => {
      this.#id = undefined;
      this.#armedFor = Infinity;
      if (this.#at <= performance.now()) this.#ring();
      else if (this.#at !== Infinity) this.#arm();
    }, Math.ceil(wait));
  }
}

function lookup(server: Deno.ResolveDnsOptions, signal: AbortSignal | undefined): Deno.ResolveDnsOptions {
  return signal === undefined ? server : { ...server, signal };
}

/** No records is no error. */
function none(error: unknown): [] {
  if (error instanceof Deno.errors.NotFound) return [];
  throw error;
}

async function resolveName(name: string, options: Deno.ResolveDnsOptions): Promise<readonly string[]> {
  const bare = name.replace(/^\[(.*)\]$/, "$1");
  if (isIpAddress(bare)) return [bare];
  if (bare === "localhost") return ["127.0.0.1", "::1"];
  const found = await Promise.allSettled([
    Deno.resolveDns(bare, "A", options),
    Deno.resolveDns(bare, "AAAA", options),
  ]);
  const addresses = found.flatMap((answer) => answer.status === "fulfilled" ? answer.value : []);
  if (addresses.length === 0) {
    const [first] = found;
    throw new Error(`Cannot find name "${bare}"`, { cause: first.status === "rejected" ? first.reason : undefined });
  }
  return addresses;
}
