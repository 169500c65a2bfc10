/**
 * Does what it is given, and says so to a runtime that ends work together with the request that it was begun for. What many wait for is
 * begun by one, and it must not end with that one.
 */
export type Keep = <T>(work: Promise<T>) => Promise<T>;

/** For runtimes that end nothing. */
export const keepNothing: Keep = (work) => work;
