import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ADMIN_KEY, createWorld, type TestWorld } from "../helpers/world.ts";

// What only a real socket can show: bytes as a client writes them.
let world: TestWorld;
let port: number;
beforeAll(async () => {
  world = await createWorld();
  port = Number(new URL(world.url).port);
});
afterAll(() => world.stop());

/** Writes these bytes and gives what comes back until the server ends the connection, or an answer is whole. */
function exchange(bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes));
    let answer = "";
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => {
      answer += chunk;
      if (/^HTTP\/1\.1 \d{3}[\s\S]*\r\n\r\n/.test(answer)) socket.end();
    });
    socket.on("end", () => resolve(answer));
    socket.on("error", (error) => (answer === "" ? reject(error) : resolve(answer)));
  });
}

const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1]);
const path = "/api/projects/default/connections";
const auth = `Authorization: Bearer ${ADMIN_KEY}\r\n`;

describe("on the wire", () => {
  test("the Host header decides who is asked", async () => {
    const ask = (host: string, target = path) =>
      exchange(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\n${auth}Connection: close\r\n\r\n`);
    expect(statusOf(await ask(`127.0.0.1:${port}`))).toBe(200);
    expect(statusOf(await ask(`localhost:${port}`))).toBe(200);
    expect(statusOf(await ask("evil.test"))).toBe(403);
    expect(statusOf(await ask(`evil.test:${port}`))).toBe(403);
    expect(statusOf(await ask("127.0.0.1"))).toBe(403);
  });

  test("an absolute target cannot speak for another host, nor be spoken for", async () => {
    const ask = (host: string, authority: string) =>
      exchange(
        `GET http://${authority}${path} HTTP/1.1\r\nHost: ${host}\r\n${auth}Connection: close\r\n\r\n`,
      );
    const ours = `127.0.0.1:${port}`;
    expect(statusOf(await ask("evil.test", ours))).toBe(403);
    expect(statusOf(await ask(ours, "evil.test"))).toBe(403);
  });

  test("a request without Host, or with two, is refused", async () => {
    const none = await exchange(`GET ${path} HTTP/1.1\r\n${auth}Connection: close\r\n\r\n`);
    expect(statusOf(none)).toBe(400);
    const two = await exchange(
      `GET ${path} HTTP/1.1\r\nHost: evil.test\r\nHost: 127.0.0.1:${port}\r\n${auth}Connection: close\r\n\r\n`,
    );
    expect(statusOf(two)).toBeGreaterThanOrEqual(400);
  });

  test("a name that is written strangely is a name nobody has", async () => {
    const ask = (target: string) =>
      exchange(`GET ${target} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${auth}Connection: close\r\n\r\n`);
    expect(statusOf(await ask("/api/projects/default/connections/%2e%2e%2fkeys"))).toBe(404);
    expect(statusOf(await ask("/api/projects/default/connections/%E0%A4%A"))).toBe(404);
    expect(statusOf(await ask("/api/projects/default/connections/%00"))).toBe(404);
  });

  test("a body that says no length is cut off at 4 MiB, and the next request is served", async () => {
    const status = await new Promise<number>((resolve, reject) => {
      const request = httpRequest(
        {
          port,
          host: "127.0.0.1",
          method: "PUT",
          path: "/api/projects/default/settings",
          headers: { authorization: `Bearer ${ADMIN_KEY}`, "transfer-encoding": "chunked" },
        },
        (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        },
      );
      request.on("error", reject);
      const piece = Buffer.alloc(64 * 1024, 0x20);
      let written = 0;
      const pour = () => {
        while (written < 4.5 * 1024 * 1024) {
          written += piece.length;
          if (!request.write(piece)) return void request.once("drain", pour);
        }
        request.end();
      };
      pour();
    });
    expect(status).toBe(413);
    expect((await world.rest("GET", path)).status).toBe(200);
  });

  test("a large body of a stranger is answered without being read", async () => {
    const response = await fetch(`${world.url}${path}/x`, {
      method: "PUT",
      headers: { authorization: "Bearer nope" },
      body: " ".repeat(3 * 1024 * 1024),
    });
    expect(response.status).toBe(401);
    expect((await world.rest("GET", path)).status).toBe(200);
  });

  test("HEAD is GET without a body, and answers carry the request's id", async () => {
    const response = await fetch(`${world.url}/healthz`, { method: "HEAD" });
    expect([response.status, await response.text()]).toEqual([200, ""]);
    expect(response.headers.get("x-request-id")).toMatch(/^req_/);
  });
});
