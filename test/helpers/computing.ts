/**
 * Starts to measure how long this process computes; gives the milliseconds so far. For bounds of what must cost little: on a
 * busy machine time passes, and this does not.
 */
export function measureComputing(): () => number {
  const before = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000;
  };
}
