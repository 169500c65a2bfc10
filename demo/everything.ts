import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

export type EverythingServer = { url: string; stop: () => Promise<void> };

/** The official sample server, from npm, as its own process: revision 2025-11-25, with sessions. */
export async function startEverything(): Promise<EverythingServer> {
  const main = join(
    import.meta.dirname,
    "../node_modules/@modelcontextprotocol/server-everything/dist/index.js",
  );
  // It can be given a port, but not a host, and does not say which free port it took: so its listen() is led by hand.
  // Its standard input ends with our process, and then it ends, too.
  const guide = `import net from "node:net";
    const listen = net.Server.prototype.listen;
    net.Server.prototype.listen = function () {
      return listen.call(this, 0, "127.0.0.1", () => console.log("port " + this.address().port));
    };
    process.stdin.on("end", () => process.exit()).resume();`;
  const child = spawn(
    process.execPath,
    ["--import", `data:text/javascript,${encodeURIComponent(guide)}`, main, "streamableHttp"],
    // Its tool get-env tells its environment to whoever asks.
    { stdio: ["pipe", "pipe", "pipe"], env: {} },
  );
  const complaints: string[] = [];
  child.stderr.setEncoding("utf8").on("data", (text: string) => complaints.push(text));
  const port = await new Promise<number>((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const found = /^port (\d+)$/.exec(line);
      if (found) resolve(Number(found[1]));
    });
    child.once("exit", () => reject(new Error(`server-everything ended: ${complaints.join("")}`)));
  });
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    },
  };
}
