// The least that a proxy of Hono and fetch can do: it adds a header and passes on what it is sent. A yardstick, not a broker.
import type { AddressInfo } from "node:net";
import { serve } from "@hono/node-server";
import { Hono } from "hono";

const [target = ""] = process.argv.slice(2);
const app = new Hono();
app.post("/mcp", async ({ req }) => {
  const headers = new Headers(req.raw.headers);
  for (const name of ["host", "connection", "content-length"]) headers.delete(name);
  headers.set("x-bench-key", "secret");
  const answer = await fetch(target, { method: "POST", headers, body: await req.text() });
  const type = answer.headers.get("content-type") ?? "application/json";
  return new Response(await answer.text(), { status: answer.status, headers: { "content-type": type } });
});
serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }: AddressInfo) =>
  console.log(`ready http://127.0.0.1:${port}/mcp`),
);
process.once("SIGTERM", () => process.exit());
