/** How routers are asked for ports. */
export interface PortMappingOptions {
  /** The router's IPv4 address, for PCP and NAT-PMP. Default: the system's default router. */
  readonly gateway?: string;
  /**
   * What asks by UPnP when the router knows neither of the other protocols, or has not answered within half a second: the
   * client of a package, as `upnpNat()` of npm's `@achingbrain/nat-port-mapper`. Default: UPnP is not used.
   */
  readonly upnp?: UpnpClient;
}

/** What finds UPnP routers (IGD). */
export interface UpnpClient {
  /** Searches the local network until the signal ends it. */
  findGateways(options: { readonly signal: AbortSignal }): AsyncIterable<UpnpGateway>;
}

/** A router that gives ports by UPnP. */
export interface UpnpGateway {
  /**
   * Maps a port, and keeps it mapped until `stop()`.
   *
   * @param localPort The port inside.
   * @param localHost The IPv4 address inside.
   */
  map(
    localPort: number,
    localHost: string,
    options: { readonly protocol: "udp"; readonly signal: AbortSignal },
  ): Promise<{ readonly externalHost: string; readonly externalPort: number }>;
  /** Gives all ports back. */
  stop(): Promise<void>;
}
