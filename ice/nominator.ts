import type { MachineIo } from "../stun/machine.ts";
import type { IceEvent } from "./events.ts";
import type { Generation } from "./generation.ts";
import { chooseNominee } from "./nomination.ts";

/** Nominates when the time has come: as `chooseNominee()` says, or as two lite agents do. */
export class Nominator {
  /** When to look again; `Infinity` if something else will say so. */
  deadline: number = Infinity;

  /** Looks whether a pair of this generation is to be nominated now. */
  consider(generation: Generation, isGatheringDone: boolean, io: MachineIo<IceEvent>): void {
    this.deadline = Infinity;
    const { connectivity, remoteDone } = generation;
    const { list, role, isLite } = connectivity;
    if (list.state === "completed") return;
    if (isLite) {
      if (isGatheringDone) agreeLite(generation, io);
      return;
    }
    if (role !== "controlling") return;
    const queued = connectivity.queuedNominee;
    if (list.isHolding && queued === undefined) return;
    const choice = chooseNominee(list.pairs, { remoteMayTrickle: !remoteDone, isGathering: !isGatheringDone });
    if (choice === undefined || choice.pair === queued) return;
    if (choice.at <= io.now) connectivity.nominate(choice.pair);
    else this.deadline = choice.at;
  }

  /** Nothing is to be nominated any more. */
  stop(): void {
    this.deadline = Infinity;
  }
}

/** Two lite agents check nothing: both take the pair that ranks first, when all candidates are known (RFC 8445 §8.2). */
function agreeLite({ connectivity, remoteDone }: Generation, io: MachineIo<IceEvent>): void {
  const { list, remoteParameters } = connectivity;
  if (remoteParameters?.lite !== true) return;
  if (!remoteDone && remoteParameters.options?.includes("trickle") === true) return;
  const [best] = list.pairs;
  if (best !== undefined) connectivity.accept(best, io);
}
