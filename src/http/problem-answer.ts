import type { Problem } from "./problems.ts";

/** Which of the two error bodies a client reads: OpenAI's under `/openai/v1` and `/v1`, Foundry's elsewhere. */
export type Surface = "openai" | "foundry";

export function surfaceOf(path: string): Surface {
  return OPENAI_PATHS.test(path) ? "openai" : "foundry";
}

const OPENAI_PATHS = /^\/v1(?:\/|$)|^\/api\/projects\/[^/]+\/(?:openai\/|.+\/protocols\/openai\/)/;

/** A problem as the answer that the surface's clients understand. */
export function answerProblem(problem: Problem, request: { surface: Surface; method: string }): Response {
  const body = request.surface === "openai" ? openaiBody(problem) : foundryBody(problem);
  const headers = new Headers(problem.headers);
  // Clients repeat 408, 409 and 5xx by themselves (foundry-wire H13); what may have done something must not be.
  // A 429 did nothing, so repeating it is right.
  const isSafe = IDEMPOTENT.has(request.method) || problem.status === 429 || headers.has("x-should-retry");
  if (!isSafe) headers.set("x-should-retry", "false");
  return Response.json(body, { status: problem.status, headers });
}

const IDEMPOTENT = new Set(["GET", "HEAD", "PUT", "DELETE"]);

function openaiBody({ status, message, type, code, param }: Problem): object {
  return {
    error: { message, type: type ?? openaiType(status), param: param ?? null, code: code ?? null },
  };
}

function openaiType(status: number): string {
  if (status >= 500) return "server_error";
  if (status === 403) return "permission_error";
  if (status === 429) return "rate_limit_error";
  return "invalid_request_error";
}

function foundryBody({ status, message, code, param, faults }: Problem): object {
  const details = faults?.map((fault) => ({
    code: "InvalidField",
    message: fault.message,
    target: fault.param,
  }));
  return {
    error: {
      code: FOUNDRY_CODES[status] ?? code ?? "Error",
      message,
      ...(param && { param }),
      ...(code && { type: code }),
      ...(details && { details }),
    },
  };
}

/** The names that Azure's services use; `code` of ours stands beside it as `type`. */
const FOUNDRY_CODES: Record<number, string> = {
  400: "invalid_payload",
  401: "Unauthorized",
  403: "Forbidden",
  404: "NotFound",
  405: "MethodNotAllowed",
  409: "Conflict",
  413: "PayloadTooLarge",
  429: "TooManyRequests",
  500: "InternalServerError",
  502: "BadGateway",
  503: "ServiceUnavailable",
};
