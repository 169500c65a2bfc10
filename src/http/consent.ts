import { confirmConsent } from "../core/consent-confirm.ts";
import type { ConsentView, WithBrowser } from "../core/consent-views.ts";
import { consentPage } from "./pages-consent.ts";
import { createPageDesk, formRoute, pageRoute, strangeFormPage } from "./pages-route.ts";
import { answerProblem } from "./problem-answer.ts";
import { httpProblems } from "./problems.ts";
import { projectRoute, publicRoute, type Call, type Route } from "./route.ts";
import type { Deps } from "./routes.ts";
import { clientDocumentBody, confirmAnswer, confirmBody, writeClientDocument } from "./wire/people.ts";

const UNKNOWN = { kind: "unknown" } as const;

/** A person's way through a consent (DESIGN 6): the page, its two buttons, and the way back from the authorization server. */
export function consentRoutes(deps: Deps): Route[] {
  const { world, broker } = deps;
  const { consent } = broker.people;
  const desk = createPageDesk(deps);
  const { pages, visitorOf } = desk;

  function shown(call: Call, told: WithBrowser<ConsentView>): Response {
    const { view } = told;
    const cookies = desk.known(visitorOf(call), told);
    if (view.kind === "go") return pages.send(view.url, cookies);
    if (view.kind === "over" && view.doneUrl !== null) return pages.send(view.doneUrl, cookies);
    return pages.show(consentPage(view, world.clock.now()), cookies);
  }

  const seen = (call: Call, view: ConsentView) => shown(call, { view, setBrowser: null });

  return [
    pageRoute({
      path: "/consent/{ticket}",
      summary: "Ask a person to connect an account",
      handle: async (call) => shown(call, await consent.show(call.params["ticket"] ?? "", visitorOf(call))),
    }),
    formRoute({
      path: "/consent/{ticket}",
      summary: "The person's answer: `action` is `allow`, `decline` or `sign_in`, with the page's `csrf`",
      handle: async (call) => {
        const form = await desk.formOf(call);
        if (!form.ok) return form.answer;
        const answers = { allow: consent.allow, decline: consent.decline, sign_in: consent.signIn };
        const action = form.fields.get("action") ?? "";
        if (!Object.hasOwn(answers, action)) return pages.show(strangeFormPage);
        // Seam: a name that the object has.
        const answer = answers[action as keyof typeof answers];
        const csrf = form.fields.get("csrf") ?? "";
        return shown(call, await answer(call.params["ticket"] ?? "", visitorOf(call), csrf));
      },
    }),
    pageRoute({
      // A fixed word beside `{ticket}` would take Hono off its compiled router.
      path: "/consent/{step}/{token}",
      summary:
        "`step` is `continue`: the runtime has recognized its person in this browser; on to the question",
      handle: async (call) => {
        const { step, token = "" } = call.params;
        const view = step === "continue" ? await consent.resume(token, visitorOf(call)) : UNKNOWN;
        return seen(call, view);
      },
    }),
    pageRoute({
      path: "/oauth/callback/{redirectId}",
      visit: "return",
      summary: "The way back from an authorization server (RFC 6749, 4.1.2)",
      handle: async (call) => {
        const { searchParams } = new URL(call.request.url);
        return seen(
          call,
          await consent.callback(call.params["redirectId"] ?? "", searchParams, visitorOf(call)),
        );
      },
    }),
    publicRoute({
      method: "GET",
      path: "/oauth/client/{redirectId}",
      visit: "page",
      tag: "person",
      summary: "What we say of ourselves to authorization servers (client ID metadata document)",
      answers: {
        200: { description: "The document", body: clientDocumentBody },
        404: { description: "None" },
      },
      handle: async ({ params }) => {
        const id = params["redirectId"] ?? "";
        const document = await consent.clientDocument(id);
        if (!document) return answerProblem(httpProblems.noRoute, { surface: "foundry", method: "GET" });
        return Response.json(writeClientDocument(document), {
          headers: { "cache-control": "public, max-age=3600" },
        });
      },
    }),
    projectRoute({
      method: "POST",
      path: "/api/projects/{project}/consents:confirm",
      tag: "consents",
      roles: ["runtime"],
      summary: "Say who sits at the browser that brought this code; needs the right act_for_users",
      body: confirmBody,
      answers: {
        200: { description: "Where to send that browser", body: confirmAnswer },
        403: { description: "Refused, whatever the reason" },
      },
      handle: async ({ context }, { body }) =>
        Response.json({ continue_url: await confirmConsent(world, context, body) }),
    }),
  ];
}
