/** How routers are asked for ports. */
export interface PortMappingOptions {
  /** The router's IPv4 address. Default: the system's default router. */
  readonly gateway?: string;
}
