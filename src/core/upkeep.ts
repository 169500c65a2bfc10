import type { Expiry, Retention } from "./expiry.ts";
import type { Leases } from "./leases.ts";
import type { SealedBoxes } from "./sealed-boxes.ts";

/** What is done for the rows themselves, of all projects, and by no request. */
export type Upkeep = { leases: Leases; boxes: SealedBoxes; expiry: Expiry; retention: Retention };
