import { signInEndPage } from "./pages-me.ts";
import { createPageDesk, pageRoute } from "./pages-route.ts";
import type { Route } from "./route.ts";
import type { Deps } from "./routes.ts";

/** The way back from the sign-in at a project's issuer. */
export function signInRoutes(deps: Deps): Route[] {
  const { signIn } = deps.broker.people;
  const { pages, cookies, visitorOf } = createPageDesk(deps);
  return [
    pageRoute({
      path: "/signin/callback",
      visit: "return",
      summary: "The way back from a sign-in (OpenID Connect Core, 3.1.2.5)",
      handle: async (call) => {
        const end = await signIn.finish(new URL(call.request.url).searchParams, visitorOf(call));
        switch (end.kind) {
          case "consent":
            return pages.send(end.url);
          case "me":
            return pages.send(end.url, [cookies.write("me", end.session)]);
          case "refused":
          case "failed":
            return pages.show(signInEndPage(end));
        }
      },
    }),
  ];
}
