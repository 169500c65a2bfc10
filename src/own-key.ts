import type { Key, Store } from "./core/storage.ts";

// Whose word the operator's key is, where versions of the program serve side by side. Part of the door `worker.ts`.

/**
 * The store, in which the operator's key is `own`, from this process's settings, and no row of the database. A row would be what the
 * newest isolate wrote, and an isolate of an older version may be the newest: it would bring a key back that was replaced.
 */
export function withOwnKey(store: Store, own: Key): Store {
  const { keys, projects } = store;
  return {
    ...store,
    keys: {
      ...keys,
      getBootstrap: async () => own,
      authenticate: async (query) => {
        if (query.hash !== own.hash) {
          const found = await keys.authenticate(query);
          return found?.key.id === own.id ? null : found;
        }
        const { project, user } = query;
        const admitted = project === null ? null : await projects.admission({ project, user });
        return { key: own, project: admitted?.project ?? null, userBlocked: admitted?.userBlocked ?? false };
      },
    },
  };
}
