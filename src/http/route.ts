import type { Context } from "../core/context.ts";
import type { Caller, Role } from "../core/identity.ts";
import { read, type Shape } from "./wire/shape.ts";

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** What every handler knows of its request. */
export type Call = {
  request: Request;
  /** The path's parameters, decoded. */
  params: Readonly<Record<string, string>>;
  /** The query; of a repeated name the last. */
  query: Readonly<Record<string, string>>;
  requestId: string;
  /** The parsed body, read once. Undefined: there is none. Throws `invalid`, `too_large`. */
  json: () => Promise<unknown>;
};

export type CallerCall = Call & { caller: Caller };

export type ProjectCall = CallerCall & {
  /** The user is the header's. */
  context: Context;
  /**
   * The context for the user that header or body names (`safety_identifier`, else `user`). Throws `user_conflict`,
   * `user_blocked`, `invalid`.
   */
  forUser: (bodyName: string | null) => Promise<Context>;
};

/** Status → what it means and the body's shape. */
export type Answers = Record<number, { description: string; body?: Shape<unknown>; type?: string }>;

type Described = {
  method: Method;
  /** An OpenAPI template. The last parameter may carry a verb: `/agents/{name}:enable`. */
  path: string;
  tag: string;
  summary: string;
  answers: Answers;
  query?: Shape<unknown>;
  body?: Shape<unknown>;
  /**
   * Asked by visitors, who are counted by address, and those who guess twice. A `return` from somewhere else is counted by itself,
   * and once: whoever has come so far must not be stopped by other visitors of the address.
   */
  visit?: "page" | "return";
};

type Handler<C> = (call: C) => Promise<Response> | Response;

/**
 * One thing that can be asked over HTTP: what it is, who may, and what happens. Anybody may ask a `public` one, a key
 * without a project an `operator` one, a caller of the path's project a `project` one; with one of the roles.
 */
export type Route = Described &
  (
    | { access: "public"; handle: Handler<Call> }
    | { access: "operator"; roles: readonly Role[]; handle: Handler<CallerCall> }
    | { access: "project"; roles: readonly Role[]; handle: Handler<ProjectCall> }
  );

type Spec<C, Q, B> = Omit<Described, "query" | "body"> & {
  query?: Shape<Q>;
  body?: Shape<B>;
  handle: (call: C, input: { query: Q; body: B }) => Promise<Response> | Response;
};

export function publicRoute<Q = unknown, B = unknown>(spec: Spec<Call, Q, B>): Route {
  return { ...spec, access: "public", handle: reading(spec) };
}

/** A route for callers that belong to no project. */
export function operatorRoute<Q = unknown, B = unknown>(
  spec: Spec<CallerCall, Q, B> & { roles: readonly Role[] },
): Route {
  return { ...spec, access: "operator", handle: reading(spec) };
}

/** A route whose path names a project as `{project}`, or is under `/v1`. */
export function projectRoute<Q = unknown, B = unknown>(
  spec: Spec<ProjectCall, Q, B> & { roles: readonly Role[] },
): Route {
  return { ...spec, access: "project", handle: reading(spec) };
}

/** What is described is what is read: the shapes of query and body come before the handler, and nowhere else. */
function reading<C extends Call, Q, B>(spec: Spec<C, Q, B>): (call: C) => Promise<Response> {
  return async (call) => {
    const query = spec.query ? read(spec.query, call.query) : undefined;
    const body = spec.body ? read(spec.body, await call.json()) : undefined;
    // The seam: a spec without a shape has a handler for which the field's type is unknown.
    return spec.handle(call, { query, body } as { query: Q; body: B });
  };
}
