#!/usr/bin/env node
// Moves all that a broker remembers into another database: migrate-store <from> <to>.
const { main } = await import("../src/migrate-store.ts");
process.exitCode = await main(process.argv.slice(2));
