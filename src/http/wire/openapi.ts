import type { JsonObject } from "../../core/json.ts";
import type { Answers, Route } from "../route.ts";
import { schemaOf, type Shape } from "./shape.ts";

/** OpenAPI 3.1 of the routes, from the same shapes that read their requests. */
export function describe(
  routes: readonly Route[],
  about: { publicUrl: string; version: string },
): JsonObject {
  const paths: Record<string, JsonObject> = {};
  for (const route of routes) {
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: operationOf(route) };
  }
  return {
    openapi: "3.1.0",
    info: { title: "Consentry", version: about.version },
    servers: [{ url: about.publicUrl }],
    components: {
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer" },
        apiKey: { type: "apiKey", in: "header", name: "api-key" },
      },
      schemas: { Error: ERROR_SCHEMA },
    },
    paths,
  };
}

const ERROR_SCHEMA: JsonObject = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["message"],
      properties: {
        message: { type: "string" },
        code: { type: ["string", "null"] },
        type: { type: "string" },
        param: { type: ["string", "null"] },
        details: { type: "array", items: { type: "object" } },
      },
    },
  },
};

function operationOf(route: Route): JsonObject {
  return {
    summary: route.summary,
    tags: [route.tag],
    operationId: operationIdOf(route),
    ...(route.access !== "public" && {
      security: [{ bearer: [] }, { apiKey: [] }],
      "x-roles": [...route.roles],
    }),
    parameters: [...pathParameters(route.path), ...queryParameters(route.query)],
    ...(route.body && {
      requestBody: { content: { "application/json": { schema: schemaOf(route.body) } } },
    }),
    responses: { ...answersOf(route.answers), default: refusal },
  };
}

function operationIdOf({ method, path }: Route): string {
  const words = path.split(/[^a-zA-Z0-9]+/).filter((word) => word !== "");
  return [method.toLowerCase(), ...words].join("_");
}

const refusal: JsonObject = {
  description: "A refusal",
  content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
};

function answersOf(answers: Answers): JsonObject {
  const entries = Object.entries(answers).map(([status, { description, body }]) => [
    status,
    { description, ...(body && { content: { "application/json": { schema: schemaOf(body) } } }) },
  ]);
  return Object.fromEntries(entries);
}

function pathParameters(path: string): JsonObject[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));
}

function queryParameters(query: Shape<unknown> | undefined): JsonObject[] {
  const properties = query ? schemaOf(query)["properties"] : null;
  if (typeof properties !== "object" || properties === null || Array.isArray(properties)) return [];
  return Object.entries(properties).map(([name, schema]) => ({ name, in: "query", schema }));
}
