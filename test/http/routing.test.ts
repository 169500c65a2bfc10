import { RegExpRouter } from "hono/router/reg-exp-router";
import { expect, test } from "vitest";
import { chooseRoute, groupRoutes } from "../../src/http/routing.ts";
import { createTestApp } from "../helpers/app.ts";

test("all that can be asked stays on Hono's compiled router, and every route is found by its own path", async () => {
  const app = await createTestApp();
  const router = new RegExpRouter<typeof app.routes>();
  for (const [key, group] of groupRoutes(app.routes)) {
    const [method = "", pattern = ""] = key.split(" ");
    router.add(method, pattern, group);
  }
  for (const route of app.routes) {
    const path = route.path.replaceAll(/\{(\w+)\}/g, "some-$1");
    // Hono's form for handlers without a regular expression and for those with one.
    const [found, stash] = router.match(route.method, path);
    const chosen = found.map(([group, names]) => {
      const params = Object.entries(names).map(
        ([name, at]) => [name, stash?.[Number(at)] ?? String(at)] as const,
      );
      return chooseRoute(group, Object.fromEntries(params));
    });
    expect(chosen.map((each) => each?.route.path)).toContain(route.path);
    const mine = chosen.find((each) => each?.route === route);
    const wanted = [...route.path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => [name, `some-${name}`]);
    expect(mine?.params).toEqual(Object.fromEntries(wanted));
  }
  await app.stop();
});
