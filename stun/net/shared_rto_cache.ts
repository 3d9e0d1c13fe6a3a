import { RtoCache } from "../rto_cache.ts";

/** The RTOs that all verbs on `denoHost()`, whose clock is one for the whole program, learn together (RFC 8489 §6.2.1). */
export const SHARED_RTO_CACHE: RtoCache = new RtoCache();
