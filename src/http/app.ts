import { type Context as HonoContext, Hono } from "hono";
import { getPath } from "hono/utils/url";
import { createTokenDesk } from "../core/caller-tokens.ts";
import type { Context } from "../core/context.ts";
import { BrokerError, isRefusal } from "../core/errors.ts";
import { requireOperator, requireRole } from "../core/identity.ts";
import { noObserver } from "../core/observe.ts";
import type { World } from "../core/ports.ts";
import { readTrace, type Trace } from "../core/trace.ts";
import { readJson } from "./body.ts";
import { admit, identify, type ProjectClaim } from "./caller.ts";
import { type HostCheck, isAtHome } from "./hosts.ts";
import { createLimits, type RateLimits } from "./limits.ts";
import { createPages } from "./pages.ts";
import { isPagePath, problemPage } from "./pages-problems.ts";
import { answerProblem, surfaceOf } from "./problem-answer.ts";
import { httpProblems, type Problem, problemOf } from "./problems.ts";
import type { Call, Route } from "./route.ts";
import { chooseRoute, groupRoutes, methodsOf } from "./routing.ts";
import { isStream, untilEnd } from "./stream-end.ts";
import { createUserDesk } from "./user-desk.ts";

export type AppOptions = {
  world: World;
  /** Everything that can be asked: see `routes.ts`. */
  routes: readonly Route[];
  isHostOurs: HostCheck;
  /** The sender's address, from the runtime. Never from a header: anybody can write one. */
  addressOf: (c: HonoContext) => string | null;
  rateLimits: RateLimits;
};

type Env = {
  Variables: {
    requestId: string;
    /** For the log: the template, never the raw path. */
    route: string | null;
    principal: string | null;
    project: string | null;
    trace: Trace | null;
  };
};

/** The whole of HTTP: who is let in, which route is meant, how refusals look, what is logged. Made in a door. */
export function createApp(options: AppOptions): Hono<Env> {
  const { world, routes } = options;
  const limits = createLimits(options.rateLimits, world.clock.now);
  const tokens = createTokenDesk(world);
  const userOf = createUserDesk(world);
  const pages = createPages(world);
  const app = new Hono<Env>({ getPath: collapsedPath });

  app.use(async (c, next) => {
    const begun = world.clock.now();
    // Probes come every few seconds and tell nobody anything.
    const observer = HOSTLESS.has(c.req.path) ? noObserver : world.observer;
    const ongoing = observer.requestBegun(traceOf(c.req.raw.headers));
    c.set("trace", ongoing.trace);
    c.set("requestId", requestIdOf(c.req.raw.headers, world));
    await next();
    const goesOn = isStream(c.res);
    if (goesOn) {
      const whole = untilEnd(c.res, ongoing.ended);
      // Hono would add the headers of the one before.
      c.res = undefined;
      c.res = whole;
    }
    // Not by c.header: on a finished answer that makes a stream of it.
    const { headers } = c.res;
    headers.set("x-request-id", c.get("requestId"));
    headers.set("x-content-type-options", "nosniff");
    if (!headers.has("cache-control")) headers.set("cache-control", "no-store");
    ongoing.answered({ method: c.req.method, route: c.get("route") ?? null, status: c.res.status });
    if (!goesOn) ongoing.ended();
    world.log(HOSTLESS.has(c.req.path) ? "debug" : "info", "http_request", {
      method: c.req.method,
      route: c.get("route") ?? null,
      status: c.res.status,
      ms: world.clock.now() - begun,
      principal: c.get("principal") ?? null,
      project: c.get("project") ?? null,
      requestId: c.get("requestId"),
    });
  });

  app.use(async (c, next) => {
    if (HOSTLESS.has(c.req.path) || isAtHome(c.req.raw, options.isHostOurs)) return next();
    return refuse(c, httpProblems.hostRefused);
  });

  for (const [key, group] of groupRoutes(routes)) {
    const [method = "", pattern = ""] = key.split(" ");
    app.on(method, pattern, async (c) => {
      const chosen = chooseRoute(group, c.req.param());
      if (!chosen) return notFound(c);
      c.set("route", chosen.route.path);
      return answer(c, chosen.route, chosen.params);
    });
  }

  app.notFound(notFound);
  app.onError(async (error, c) => {
    const problem = problemOf(error, surfaceOf(c.req.path));
    if (error instanceof BrokerError) world.observer.refused(error.code);
    if (problem && isRefusal(error, "unauthenticated")) return refuse(c, await strangerProblem(c, problem));
    if (problem) return refuse(c, problem);
    const requestId = c.get("requestId");
    world.log("error", "request_failed", {
      requestId,
      route: c.get("route"),
      error: error.stack ?? error.message,
    });
    return refuse(c, httpProblems.ourFault(requestId));
  });

  async function answer(
    c: HonoContext<Env>,
    route: Route,
    params: Record<string, string>,
  ): Promise<Response> {
    const { raw } = c.req;
    const requestId = c.get("requestId");
    const call: Call = {
      request: raw,
      params,
      query: c.req.query(),
      requestId,
      json: once(() => readJson(raw)),
    };
    if (route.access === "public")
      return route.visit ? visit(c, route.visit, () => route.handle(call)) : route.handle(call);

    const claim = projectClaim(route, params, raw.headers);
    // A token is a project's: the operator's routes know keys alone.
    const known = { world, tokens: route.access === "operator" ? null : tokens };
    const identified = await identify(known, raw.headers, claim);
    const { caller } = identified;
    c.set("principal", caller.principal);
    // By project: what issuers call people and applications is said by each project's own settings.
    const wait = await limits.caller(JSON.stringify([caller.project, caller.principal]));
    if (wait !== null) return refuse(c, httpProblems.tooMany(wait));
    const admitted = await admit({ world, tokens }, identified);
    c.set("project", admitted?.project.name ?? null);
    if (route.access === "operator") {
      requireOperator(caller);
      requireRole(caller, ...route.roles);
      return route.handle({ ...call, caller });
    }
    requireRole(caller, ...route.roles);
    if (!admitted) throw new Error(`${route.path} names no project`);
    const { project } = admitted;
    const forUser = async (body: string | null): Promise<Context> => {
      const { user, userToken } = await userOf(caller, admitted, body);
      return { project, caller, user, userToken, requestId, trace: c.get("trace"), signal: raw.signal };
    };
    return route.handle({ ...call, caller, context: await forUser(null), forUser });
  }

  /** Strangers are counted when they fail, and told to wait when they fail too often. */
  async function strangerProblem(c: HonoContext<Env>, problem: Problem): Promise<Problem> {
    const wait = await limits.stranger(options.addressOf(c) ?? "unknown");
    return wait === null ? problem : httpProblems.tooMany(wait);
  }

  /** People are nobody's callers: all are counted, and who asks for what is not there or not theirs is a stranger. */
  async function visit(
    c: HonoContext<Env>,
    kind: "page" | "return",
    handle: () => Promise<Response> | Response,
  ): Promise<Response> {
    const address = options.addressOf(c) ?? "unknown";
    const wait = await (kind === "page" ? limits.visitor(address) : limits.returning(address));
    if (wait !== null) return refuse(c, httpProblems.tooMany(wait));
    const response = await handle();
    // Nobody guesses a state, and what a person is told at the end of the way is theirs, whatever others guessed.
    const isGuess = kind === "page" && GUESSES.has(response.status);
    const late = isGuess ? await limits.stranger(address) : null;
    return late === null ? response : refuse(c, httpProblems.tooMany(late));
  }

  function refuse(c: HonoContext<Env>, problem: Problem): Response {
    const { path, method } = c.req;
    if (!isPagePath(path)) return answerProblem(problem, { surface: surfaceOf(path), method });
    const response = pages.show(problemPage(problem));
    for (const [name, value] of Object.entries(problem.headers ?? {})) response.headers.set(name, value);
    return response;
  }

  function notFound(c: HonoContext<Env>): Response {
    const methods = methodsOf(routes, c.req.path);
    return refuse(c, methods.length === 0 ? httpProblems.noRoute : httpProblems.wrongMethod(methods));
  }

  return app;
}

/** Asked by load balancers and probes, which use addresses of their own. */
const HOSTLESS = new Set(["/healthz", "/readyz"]);

/** What a page answers to those who have no business there. */
const GUESSES = new Set([400, 403, 404]);

/** Endpoints written with a trailing slash arrive as `/api/projects/p//openai/v1` (foundry-wire H12). */
function collapsedPath(request: Request): string {
  const path = getPath(request);
  return path.includes("//") ? path.replaceAll(/\/{2,}/g, "/") : path;
}

/** The sender's own request id, if it is short and plain; it is written into logs and audit. */
function requestIdOf(headers: Headers, world: World): string {
  const given = headers.get("x-request-id");
  return given !== null && /^[\w.-]{1,64}$/.test(given) ? given : world.newId("req");
}

/** The caller's trace. It is believed, as it decides nothing. */
function traceOf(headers: Headers): Trace | null {
  return readTrace(headers.get("traceparent"), headers.get("tracestate"));
}

function projectClaim(route: Route, params: Record<string, string>, headers: Headers): ProjectClaim {
  if (params["project"] !== undefined) return { kind: "route", name: params["project"] };
  if (route.access !== "project") return { kind: "none" };
  return { kind: "key", fallback: headers.get("openai-project") ?? DEFAULT_PROJECT };
}

/** Made at first start; `/v1` means it where neither key nor header names another. */
export const DEFAULT_PROJECT = "default";

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  return () => (made ??= make());
}
