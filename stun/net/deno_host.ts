import { isIpAddress } from "../address.ts";
import { connectDenoStream, listenDenoStream } from "./tcp.ts";
import type { Host, HostTimer } from "./transport.ts";
import { openDenoDatagram } from "./udp.ts";

// setTimeout takes a 32-bit count; a later deadline is reached in steps.
const LONGEST_WAIT = 2 ** 31 - 1;

/**
 * The computer that Deno runs on. Needs `--unstable-net` and `--allow-net`, and `--allow-sys=networkInterfaces` for
 * `interfaces()`.
 */
export function denoHost(): Host {
  return {
    now: () => performance.now(),
    random: { fill: (bytes) => void crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>) },
    createTimer: (ring) => new DenoTimer(ring),
    openDatagram: openDenoDatagram,
    connectStream: connectDenoStream,
    listenStream: listenDenoStream,
    interfaces: () => Deno.networkInterfaces().map(({ name, address }) => ({ name, address: address.split("%")[0]! })),
    resolve: resolveName,
  };
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

async function resolveName(name: string): Promise<readonly string[]> {
  const bare = name.replace(/^\[(.*)\]$/, "$1");
  if (isIpAddress(bare)) return [bare];
  if (bare === "localhost") return ["127.0.0.1", "::1"];
  const found = await Promise.allSettled([Deno.resolveDns(bare, "A"), Deno.resolveDns(bare, "AAAA")]);
  const addresses = found.flatMap((answer) => answer.status === "fulfilled" ? answer.value : []);
  if (addresses.length === 0) {
    const [first] = found;
    throw new Error(`Cannot find name "${bare}"`, { cause: first.status === "rejected" ? first.reason : undefined });
  }
  return addresses;
}
