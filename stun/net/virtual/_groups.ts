import type { TransportAddress } from "../../address.ts";

/** A socket that shares its port, and gets what is sent to a group on its interface. */
export interface Member {
  readonly localAddress: TransportAddress;
  /** The group's IP address, with the port. */
  readonly group: TransportAddress | undefined;
}

/** A host's multicast sockets (RFC 1112). */
export class GroupTable<T extends Member> {
  #members: T[] = [];

  add(member: T): void {
    this.#members.push(member);
  }

  /** Gives whether it was one. */
  remove(member: T): boolean {
    const index = this.#members.indexOf(member);
    if (index !== -1) this.#members.splice(index, 1);
    return index !== -1;
  }

  /** Those that get what is sent to this address, on the interface that has such addresses. */
  members(group: TransportAddress, isOnInterface: (address: TransportAddress) => boolean): T[] {
    return this.#members.filter((member) => member.group!.equals(group) && isOnInterface(member.localAddress));
  }

  /** The one that gets what is sent to its own address: of several the latest, as on Linux. */
  find(destination: TransportAddress): T | undefined {
    return this.#members.findLast(({ localAddress }) => localAddress.equals(destination));
  }
}
