import type { Person } from "./caller-tokens.ts";
import { BrokerError } from "./errors.ts";
import { type Caller, namedUser } from "./identity.ts";
import type { UserId } from "./ids.ts";
import type { UserToken } from "./machine-identity.ts";

/** All that says whom a request is for. */
export type UserSources = {
  /** The person that the caller itself is, by its token. */
  own: Person | null;
  /** The person whose own token the caller passed on in `x-ms-user-identity`. */
  asserted: Person | null;
  /** The name in that header, where it is a name. */
  header: string | null;
  /** The name in the body. */
  body: string | null;
};

/** Whom a request is for. `userToken`: only where the person's own token came with the request. */
export type RequestUser = { user: UserId | null; userToken: UserToken | null };

/**
 * Whom a request is for (DESIGN 5). A person's token needs no right, whoever passes it on: it proves the person. A name counts
 * only from a caller who may act for users, and then it goes before the caller's own person.
 *
 * Throws what `namedUser` throws; `user_conflict` when a token and something else say different people.
 */
export function requestUser(
  caller: Caller,
  { own, asserted, header, body }: UserSources,
  settings: { fromBody: boolean },
): RequestUser {
  const named = namedUser(caller, { header, body }, settings);
  if (asserted) {
    const others = [own?.user, named].filter((user) => user != null && user !== asserted.user);
    if (others.length > 0) throw new BrokerError("user_conflict", { header: "a token", body: body ?? "" });
    return asserted;
  }
  if (named === null || named === own?.user) return own ?? { user: named, userToken: null };
  return { user: named, userToken: null };
}
