// An MCP server that knows people by their own accounts, and its authorization server, until they are stopped: to try a broker
// of your own with (README, "Each person's own account"). Both listen on this machine alone, and remember nothing.
import { startAuthServer } from "./auth-server.ts";
import { startProtectedServer } from "./protected.ts";

const AUTH_SERVER_PORT = 3910;
const MCP_SERVER_PORT = 3911;
const ACCOUNTS = ["ann@example.com", "bob@example.com"];

const authServer = await startAuthServer(ACCOUNTS, { port: AUTH_SERVER_PORT });
const server = await startProtectedServer({ authServer, port: MCP_SERVER_PORT });

console.log(`MCP server             ${server.url}    tools: whoami, read_notes, write_note`);
console.log(`authorization server   ${authServer.issuer}        found by the broker itself`);
console.log(`who can sign in        ${ACCOUNTS.join(", ")}    by a button each, without a password`);
console.log(
  "\nCtrl-C stops both. They forget their clients then: after a restart, delete the connection and make it again.",
);

async function stop(): Promise<void> {
  await server.stop();
  await authServer.stop();
}
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void stop());
