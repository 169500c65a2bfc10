/** A task, and what it is given to say how far it is. */
export type Task<T, N> = (tell: (news: N) => void) => Promise<T>;

/**
 * Runs tasks, at most `atOnce` at a time, and gives their results in the order in which they end. The first fault is
 * thrown when its turn comes; tasks under way then end unheard, those not begun are not begun.
 */
export async function* asTheyEnd<T>(tasks: readonly (() => Promise<T>)[], atOnce: number): AsyncGenerator<T> {
  for await (const step of asTheyGo<T, never>(tasks, atOnce)) if ("end" in step) yield step.end;
}

/**
 * The same, and what the tasks say meanwhile, `of` which task. Whoever reads slowly hears the newest of each and not all;
 * nothing is heard of a task after its end.
 */
export async function* asTheyGo<T, N>(
  tasks: readonly Task<T, N>[],
  atOnce: number,
): AsyncGenerator<{ end: T } | { of: number; news: N }> {
  const ended: ({ value: T } | { fault: unknown })[] = [];
  const running = new Set<number>();
  const untold = new Map<number, N>();
  let begun = 0;
  let stopped = false;
  let wake = () => {};

  const tellOf = (at: number) => (news: N) => {
    if (!running.has(at)) return;
    untold.set(at, news);
    wake();
  };

  async function work(): Promise<void> {
    for (let at = begun++; !stopped; at = begun++) {
      const task = tasks[at];
      if (!task) return;
      running.add(at);
      const end = await task(tellOf(at)).then(
        (value) => ({ value }),
        (fault: unknown) => ({ fault }),
      );
      running.delete(at);
      untold.delete(at);
      ended.push(end);
      wake();
    }
  }

  for (let worker = 0; worker < Math.min(atOnce, tasks.length); worker++) void work();
  try {
    for (let given = 0; given < tasks.length;) {
      while (ended.length === 0 && untold.size === 0) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      // Those that wait now: what comes while these are heard waits for the ends.
      const waiting = Array.from(untold.keys());
      for (const of of waiting) {
        const news = untold.get(of);
        untold.delete(of);
        if (news !== undefined) yield { of, news };
      }
      const next = ended.shift();
      if (!next) continue;
      given++;
      if ("fault" in next) throw next.fault;
      yield { end: next.value };
    }
  } finally {
    stopped = true;
  }
}
