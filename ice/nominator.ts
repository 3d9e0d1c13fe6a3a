import type { MachineIo } from "../stun/machine.ts";
import type { ComponentSession } from "./component_session.ts";
import type { IceEvent } from "./events.ts";
import type { Generation } from "./generation.ts";
import { chooseNominee } from "./nomination.ts";

/** Nominates when the time has come: as `chooseNominee()` says, or as two lite agents do. For each component by itself. */
export class Nominator {
  /** When to look again; `Infinity` if something else will say so. */
  deadline: number = Infinity;

  /** Looks whether pairs of this generation are to be nominated now. */
  consider({ sessions }: Generation, isGatheringDone: boolean, io: MachineIo<IceEvent>): void {
    this.deadline = Infinity;
    for (const session of sessions) {
      if (!session.isRemoved) this.deadline = Math.min(this.deadline, nominate(session, isGatheringDone, io));
    }
  }

  /** Nothing is to be nominated any more. */
  stop(): void {
    this.deadline = Infinity;
  }
}

/** Nominates a pair of a component, if it is time; gives when to look again. */
function nominate(session: ComponentSession, isGatheringDone: boolean, io: MachineIo<IceEvent>): number {
  const { connectivity, remoteDone } = session;
  const { list, role, isLite } = connectivity;
  if (list.state === "completed") return Infinity;
  if (isLite) {
    if (isGatheringDone) agreeLite(session, io);
    return Infinity;
  }
  if (role !== "controlling") return Infinity;
  const queued = connectivity.queuedNominee;
  if (list.isHolding && queued === undefined) return Infinity;
  const choice = chooseNominee(list.pairs, { remoteMayTrickle: !remoteDone, isGathering: !isGatheringDone });
  if (choice === undefined || choice.pair === queued) return Infinity;
  if (choice.at > io.now) return choice.at;
  connectivity.nominate(choice.pair);
  return Infinity;
}

/** Two lite agents check nothing: both take the pair that ranks first, when all candidates are known (RFC 8445 §8.2). */
function agreeLite({ connectivity, remoteDone }: ComponentSession, io: MachineIo<IceEvent>): void {
  const { list, remoteParameters } = connectivity;
  if (remoteParameters?.lite !== true) return;
  if (!remoteDone && remoteParameters.options?.includes("trickle") === true) return;
  const [best] = list.pairs;
  if (best !== undefined) connectivity.accept(best, io);
}
