import type { Place } from "../core/observe.ts";

type Labels = { project: string; connection: string };

/**
 * The labels of the first `max` places, and one for all that come later: admins may make any number of connections, and
 * every label value is a series that somebody must keep for good.
 */
export function createPlaces(max: number): { labelsOf: (place: Place) => Labels } {
  const known = new Map<string, Labels>();
  return {
    labelsOf: ({ project, connection }) => {
      const key = `${project} ${connection ?? ""}`;
      const found = known.get(key);
      if (found) return found;
      if (known.size >= max) return OTHER;
      // The empty label: a `server_url` without a connection.
      const labels = { project, connection: connection ?? "" };
      known.set(key, labels);
      return labels;
    },
  };
}

const OTHER: Labels = { project: "other", connection: "other" };
