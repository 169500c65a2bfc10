#!/usr/bin/env node
// Whether the broker of this container answers: ends with 0, or with 1 and a line that says why. For images without curl.
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";

const TIMEOUT_MS = 2_500;
/** An address to listen on is none to ask at. */
const ASKED_AT = new Map([
  ["0.0.0.0", "127.0.0.1"],
  ["::", "::1"],
]);

const { CONSENTRY_HOST, CONSENTRY_PORT, CONSENTRY_TLS } = process.env;
const host = (CONSENTRY_HOST?.trim() || "127.0.0.1").replace(/^\[(.*)\]$/, "$1");
const isHttps = (CONSENTRY_TLS?.trim() || "off") !== "off";
const asked = (isHttps ? requestHttps : requestHttp)({
  host: ASKED_AT.get(host) ?? host,
  port: CONSENTRY_PORT?.trim() || "8787",
  path: "/healthz",
  // Its certificate is for the names that others call it by. Nothing is told to whoever answers, and nothing believed.
  rejectUnauthorized: false,
  timeout: TIMEOUT_MS,
});
const fail = (why) => {
  console.error(`unhealthy: ${why}`);
  process.exit(1);
};
asked.on("response", ({ statusCode }) => (statusCode === 200 ? process.exit(0) : fail(`HTTP ${statusCode}`)));
asked.on("timeout", () => fail("no answer"));
asked.on("error", (error) => fail(error.code ?? error.message));
asked.end();
