import type { MeView, WithSession } from "../core/consent-views.ts";
import { mePage } from "./pages-me.ts";
import { createPageDesk, formRoute, pageRoute, strangeFormPage } from "./pages-route.ts";
import { type Call, projectRoute, type Route } from "./route.ts";
import type { Deps } from "./routes.ts";
import { meLinkAnswer, meLinkBody, writeMeLink } from "./wire/people.ts";

/** `/me/{project}`: what a person connected (DESIGN 6). */
export function meRoutes(deps: Deps): Route[] {
  const { me } = deps.broker.people;
  const desk = createPageDesk(deps);
  const { pages, cookies, visitorOf } = desk;
  const projectOf = ({ params }: Call) => params["project"] ?? "";
  const tokenOf = ({ params }: Call) => params["token"] ?? "";
  const sessionOf = ({ request }: Call) => cookies.read(request, "me");

  function shown(call: Call, told: WithSession<MeView>): Response {
    const { view, setSession } = told;
    const lines = desk.known(visitorOf(call), told);
    if (setSession !== null) lines.push(cookies.write("me", setSession));
    if (view.kind === "left") lines.push(cookies.write("me", null));
    return view.kind === "go"
      ? pages.send(view.url, lines)
      : pages.show(mePage(view, projectOf(call)), lines);
  }

  const seen = (call: Call, view: MeView) => shown(call, { view, setBrowser: null, setSession: null });

  return [
    pageRoute({
      path: "/me/{project}",
      summary: "What a person connected",
      answers: { 404: { description: "There is no way in: neither a sign-in nor a link (text/html)" } },
      handle: async (call) =>
        shown(call, {
          ...(await me.show(projectOf(call), visitorOf(call), sessionOf(call))),
          setSession: null,
        }),
    }),
    formRoute({
      path: "/me/{project}",
      summary: "`action` is `sign_in`, `disconnect` (with `grant`) or `leave`, with the page's `csrf`",
      handle: async (call) => {
        const form = await desk.formOf(call);
        if (!form.ok) return form.answer;
        const [project, visitor, session] = [projectOf(call), visitorOf(call), sessionOf(call)];
        const csrf = form.fields.get("csrf") ?? "";
        switch (form.fields.get("action")) {
          case "sign_in":
            return shown(call, { ...(await me.signIn(project, visitor, csrf)), setSession: null });
          case "disconnect": {
            const grant = form.fields.get("grant") ?? "";
            return seen(call, await me.disconnect(project, { grant, csrf }, visitor, session));
          }
          case "leave":
            return seen(call, await me.leave(project, csrf, visitor, session));
          default:
            return pages.show(strangeFormPage);
        }
      },
    }),
    pageRoute({
      path: "/me/{project}/link/{token}",
      summary: "A one-time link: shown, not used",
      handle: async (call) =>
        shown(call, {
          ...(await me.showLink(projectOf(call), tokenOf(call), visitorOf(call))),
          setSession: null,
        }),
    }),
    formRoute({
      path: "/me/{project}/link/{token}",
      summary: "A one-time link: used, for a visit of a quarter of an hour",
      handle: async (call) => {
        const form = await desk.formOf(call);
        if (!form.ok) return form.answer;
        const csrf = form.fields.get("csrf") ?? "";
        return shown(call, await me.openLink(projectOf(call), tokenOf(call), visitorOf(call), csrf));
      },
    }),
    projectRoute({
      method: "POST",
      path: "/api/projects/{project}/me-links",
      tag: "users",
      roles: ["runtime", "admin"],
      summary:
        "A link for one visit of a user to what they connected; needs the right act_for_users, or the user's own token",
      body: meLinkBody,
      answers: { 200: { description: "The link, good for ten minutes", body: meLinkAnswer } },
      handle: async ({ context }, { body }) =>
        Response.json(writeMeLink(await me.makeLink(context, body.user ?? null))),
    }),
  ];
}
