import { DrizzleQueryError } from "drizzle-orm";
import pg from "pg";
import { BrokerError } from "../core/errors.ts";

/** Whether PostgreSQL ended a list for the sake of another one: it may begin again. */
export function isRetriable(error: unknown): boolean {
  return error instanceof pg.DatabaseError && RETRIABLE.has(error.code ?? "");
}

// https://www.postgresql.org/docs/current/errcodes-appendix.html: deadlock_detected, serialization_failure.
const RETRIABLE = new Set(["40P01", "40001"]);

/** Whether it was PostgreSQL that said so, and not our side that heard nothing, or not what it understands. */
export function hasSpoken(error: unknown): boolean {
  const said = error instanceof BrokerError ? error.cause : error;
  return said instanceof pg.DatabaseError;
}

/** Drizzle's faults as the driver's. Its wrapper is dropped: the message holds the parameters. */
export async function translated<T>(work: () => PromiseLike<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof DrizzleQueryError ? faultOf(error.cause) : error;
  }
}

/** What is asked of the driver itself, with its faults translated. */
export async function reached<T>(work: () => PromiseLike<T> | T): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw faultOf(error);
  }
}

/** The driver's faults, translated once: what the database itself says has a code, all else means it is out of reach. */
function faultOf(error: unknown): unknown {
  const unavailable = () =>
    new BrokerError("unavailable", { what: "database", passing: true }, { cause: error });
  if (error instanceof pg.DatabaseError) return OUT_OF_REACH.test(error.code ?? "") ? unavailable() : error;
  if (error instanceof TypeError || error instanceof RangeError) return error;
  return unavailable();
}

// Connection, read-only (a replica), who may log in, no such database, resources, shut down or timed out, the system.
const OUT_OF_REACH = /^(08|25006|28|3D|53|57|58)/;
