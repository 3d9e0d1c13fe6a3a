// Shell of probeTurn(): what a server can do besides what all must, by asking for it.
import { StunError } from "../stun/error.ts";
import type { AllocateOptions, Relay } from "./allocate.ts";
import type { TurnFeatures } from "./probe_report.ts";

/** What may be asked of an allocation. */
export type RelayWishes = Pick<AllocateOptions, "family" | "evenPort" | "dontFragment" | "mobility">;

/** How to ask. */
export interface FeatureQuestions {
  /** Gets a relay with these wishes. */
  allocate(wishes: RelayWishes): Promise<Relay>;
  /** Gets a relay for connections; missing where the server is not talked to over one. */
  readonly allocateTcp: (() => Promise<AsyncDisposable>) | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Asks for all of them. What fails for another reason than that it cannot be done is not found out. */
export async function findFeatures({ allocate, allocateTcp, signal }: FeatureQuestions): Promise<TurnFeatures> {
  const ask = async <R extends AsyncDisposable, T>(open: () => Promise<R>, read: (relay: R) => T) => {
    try {
      await using relay = await open();
      return read(relay);
    } catch (error) {
      signal?.throwIfAborted();
      return error instanceof StunError ? false : null;
    }
  };
  const extras = await ask(() => allocate({ family: "dual", dontFragment: true, mobility: true }), (relay) => ({
    dual: relay.relayedAddresses.length > 1,
    dontFragment: relay.canSendUnfragmented,
    mobility: relay.canMigrate,
  }));
  const reservedPorts = await ask(
    () => allocate({ evenPort: "pair" }),
    (relay) => relay.reservationToken !== undefined,
  );
  const tcpPeers = allocateTcp === undefined ? null : await ask(allocateTcp, () => true);
  return { ...extras || { dual: null, dontFragment: null, mobility: null }, reservedPorts, tcpPeers };
}
