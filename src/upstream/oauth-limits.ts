/** From a request's start to the last byte of its answer; the lease of a refresh outlives two of them (threats, rule 1). */
export const TIMEOUT_MS = 15_000;
/** Documents and token answers are a few kilobytes; group claims make some of them long. */
export const MAX_ANSWER_BYTES = 256 * 1024;
export const MAX_ANSWER_DEPTH = 32;
/** What is kept of a server's own words. */
export const MAX_ERROR_CODE = 100;
export const MAX_DESCRIPTION = 300;
/** A longer life than a hundred years is one without an end. */
export const MAX_LIFE_SECONDS = 100 * 366 * 24 * 3600;
