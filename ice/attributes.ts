import { type Attribute, flagAttribute, uint32Attribute, uint64Attribute } from "../stun/attribute.ts";

/** The priority a peer-reflexive candidate learned from this check would have. RFC 8445 §16.1. */
export const PRIORITY: Attribute<number> = uint32Attribute(0x0024, "PRIORITY");
/** Nominates the pair. RFC 8445 §16.1. */
export const USE_CANDIDATE: Attribute<true> = flagAttribute(0x0025, "USE-CANDIDATE");
/** The sender is controlled; its tie-breaker. RFC 8445 §16.1. */
export const ICE_CONTROLLED: Attribute<bigint> = uint64Attribute(0x8029, "ICE-CONTROLLED");
/** The sender is controlling; its tie-breaker. RFC 8445 §16.1. */
export const ICE_CONTROLLING: Attribute<bigint> = uint64Attribute(0x802a, "ICE-CONTROLLING");
/**
 * How new a nomination is: of several the one with the largest value counts (draft-thatcher-ice-renomination §4). 24 bits;
 * the type is the one that browsers use.
 */
export const NOMINATION: Attribute<number> = uint32Attribute(0xc001, "NOMINATION");
