import { denoHost } from "../../../stun/net/deno_host.ts";
import type { Host } from "../../../stun/net/transport.ts";

/** The real computer, but for its clock, which a test puts forward: a limit is then reached exactly when it says so. */
export interface ShiftedHost {
  readonly host: Host;
  /** Puts the clock forward by as many ms. What waits for a time that has come rings, as on a real host, a little later. */
  pass(ms: number): void;
}

/** Makes one. */
export function shiftedHost(): ShiftedHost {
  const real = denoHost();
  const timers = new Set<() => void>();
  let shift = 0;
  return {
    host: {
      ...real,
      now: () => real.now() + shift,
      createTimer(ring) {
        const timer = real.createTimer(ring);
        let at = Infinity;
        const arm = () => timer.set(at - shift);
        timers.add(arm);
        return {
          set(time) {
            at = time;
            arm();
          },
        };
      },
    },
    pass(ms) {
      shift += ms;
      for (const arm of timers) arm();
    },
  };
}
