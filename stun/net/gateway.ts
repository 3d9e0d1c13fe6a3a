const ROUTES = "/proc/net/route";

/**
 * The IPv4 address of the default router: from Linux, if Deno may read it (`--allow-all`); else the first address of the
 * network of the first interface that has a private one, which is right in most homes. `undefined` if there is none.
 */
export async function findGateway(): Promise<string | undefined> {
  return await gatewayOfLinux() ?? guessGateway(Deno.networkInterfaces());
}

async function gatewayOfLinux(): Promise<string | undefined> {
  const query = { name: "read", path: ROUTES } as const;
  if (Deno.build.os !== "linux" || (await Deno.permissions.query(query)).state !== "granted") return undefined;
  try {
    return gatewayOf(await Deno.readTextFile(ROUTES));
  } catch {
    return undefined;
  }
}

/**
 * The router of the default route with the lowest metric in the text of Linux's `/proc/net/route`.
 *
 * @returns `undefined` if there is no such route.
 */
export function gatewayOf(routes: string): string | undefined {
  const found = routes.split("\n").slice(1).map((line) => line.trim().split(/\s+/)).filter((words) =>
    words[1] === "00000000" && words[7] === "00000000" && words[2] !== "00000000" && words.length > 7
  ).sort((a, b) => Number(a[6]) - Number(b[6]));
  const [hex] = found.map((words) => words[2]!);
  if (hex === undefined || !/^[0-9A-F]{8}$/i.test(hex)) return undefined;
  // Little-endian.
  return [6, 4, 2, 0].map((at) => parseInt(hex.slice(at, at + 2), 16)).join(".");
}

/** The first address of the first private IPv4 network. */
export function guessGateway(
  interfaces: readonly Pick<Deno.NetworkInterfaceInfo, "address" | "netmask">[],
): string | undefined {
  const home = interfaces.find(({ address }) => /^(10|192\.168|172\.(1[6-9]|2\d|3[01]))\./.test(address));
  if (home === undefined) return undefined;
  const mask = home.netmask.split(".").map(Number);
  const network = home.address.split(".").map((byte, i) => Number(byte) & mask[i]!);
  network[3]! |= 1;
  return network.join(".");
}
