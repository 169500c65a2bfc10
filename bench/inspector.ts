/** Node's flag that lets an inspector in. */
export const inspectedAt = (port: number) => [`--inspect=127.0.0.1:${port}`];

/** Chrome's DevTools protocol to a process that listens for it, as far as it is needed here. */
export async function connect(port: number) {
  const answer = await fetch(`http://127.0.0.1:${port}/json`);
  const [target] = (await answer.json()) as { webSocketDebuggerUrl: string }[];
  const socket = new WebSocket(target?.webSocketDebuggerUrl ?? "");
  const waiting = new Map<number, (result: unknown) => void>();
  let last = 0;
  socket.addEventListener("message", ({ data }) => {
    const { id, result } = JSON.parse(String(data)) as { id: number; result: unknown };
    waiting.get(id)?.(result);
  });
  await new Promise((resolve) => socket.addEventListener("open", resolve, { once: true }));
  return {
    ask: (method: string, params: object = {}) => {
      const id = ++last;
      socket.send(JSON.stringify({ id, method, params }));
      return new Promise<unknown>((resolve) => waiting.set(id, resolve));
    },
    close: () => socket.close(),
  };
}
