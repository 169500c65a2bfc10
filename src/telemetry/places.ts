import type { Place } from "../core/observe.ts";

type Labels = { project: string; connection: string };

/**
 * The labels of the first `max` places, and one for all that come later: admins may make any number of connections, and
 * every label value is a series that somebody must keep for good. Of these no project has more than its share, so that none
 * takes the others' away; what is beyond it is told by the project's name alone.
 */
export function createPlaces(max: number): { labelsOf: (place: Place) => Labels } {
  const known = new Map<string, Labels>();
  const counts = new Map<string, number>();
  const share = Math.max(1, Math.floor(max / SHARES));
  return {
    labelsOf: ({ project, connection }) => {
      const key = `${project} ${connection ?? ""}`;
      const found = known.get(key);
      if (found) return found;
      if (known.size >= max) return OTHER;
      const count = counts.get(project) ?? 0;
      if (count >= share) return { project, connection: REST };
      counts.set(project, count + 1);
      // The empty label: a `server_url` without a connection.
      const labels = { project, connection: connection ?? "" };
      known.set(key, labels);
      return labels;
    },
  };
}

/** No project and no connection is called so. */
const REST = "(other)";
const OTHER: Labels = { project: REST, connection: REST };
const SHARES = 10;
