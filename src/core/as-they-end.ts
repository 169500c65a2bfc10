/**
 * Runs tasks, at most `atOnce` at a time, and gives their results in the order in which they end. The first fault is
 * thrown when its turn comes; tasks under way then end unheard, those not begun are not begun.
 */
export async function* asTheyEnd<T>(tasks: readonly (() => Promise<T>)[], atOnce: number): AsyncGenerator<T> {
  const ended: ({ value: T } | { fault: unknown })[] = [];
  let begun = 0;
  let stopped = false;
  let wake = () => {};

  async function work(): Promise<void> {
    for (let task = tasks[begun++]; task && !stopped; task = tasks[begun++]) {
      ended.push(
        await task().then(
          (value) => ({ value }),
          (fault: unknown) => ({ fault }),
        ),
      );
      wake();
    }
  }

  for (let worker = 0; worker < Math.min(atOnce, tasks.length); worker++) void work();
  try {
    for (let given = 0; given < tasks.length; given++) {
      while (ended.length === 0) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      const next = ended.shift();
      if (next && "fault" in next) throw next.fault;
      if (next) yield next.value;
    }
  } finally {
    stopped = true;
  }
}
