// Ports for programs that can not be told "any".

const FIRST = 10_000;
/** Below those that systems give out by themselves: nobody is given one between here and the program's start. */
const END = 32_000;

const given = new Set<number>();

/**
 * The first of so many ports in a row that nobody has for UDP or TCP. Two by default, as many programs take the next one as
 * well. None is given twice.
 */
export function freePort(count = 2): number {
  for (;;) {
    const first = FIRST + Math.floor(Math.random() * (END - FIRST - count));
    const ports = Array.from({ length: count }, (_, i) => first + i);
    if (ports.some((port) => given.has(port)) || !ports.every(isFree)) continue;
    for (const port of ports) given.add(port);
    return first;
  }
}

function isFree(port: number): boolean {
  const address = { hostname: "0.0.0.0", port };
  try {
    using _tcp = Deno.listen(address);
    Deno.listenDatagram({ ...address, transport: "udp" }).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) return false;
    throw error;
  }
}
