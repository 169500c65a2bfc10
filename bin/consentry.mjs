#!/usr/bin/env node
// Checks the Node version before anything else is read: an old Node cannot even parse what the door imports.
const MINIMUM = [22, 19];

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < MINIMUM[0] || (major === MINIMUM[0] && minor < MINIMUM[1])) {
  console.error(
    `Consentry needs Node ${MINIMUM.join(".")} or newer, and this is Node ${process.versions.node}. ` +
      "Run it with: npm start (npm ci brings a current Node along)",
  );
  process.exit(1);
}

const [command, ...args] = process.argv.slice(2);
if (command === "keys") {
  const { keysCommand } = await import("../src/keys.ts");
  process.exitCode = await keysCommand(process.env, args);
} else {
  const { main } = await import("../src/node.ts");
  await main(process.env);
}
