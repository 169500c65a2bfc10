import * as z from "zod";
import type { Connector } from "../../core/connection.ts";
import type { ConnectorDraft } from "../../core/connector-rules.ts";
import { flag, listOf, strictQuery, writeMoment } from "./common.ts";
import { appBody, appFields, readOAuthDraft, secretFields, writeApp, writeOverrides } from "./oauth.ts";
import { arrayOf, only, type Shape } from "./shape.ts";

/** A connector, flat. Strict: a misspelt field must not pass for one that is set. `name`: the path's again, if at all. */
export const connectorDraft: Shape<{ name: string | null; draft: ConnectorDraft }> = only(
  {
    name: z.string().nullish(),
    ...appFields,
    ...secretFields,
    targets: arrayOf(z.string(), 1_000).optional(),
  },
  (name) => (FOREIGN.includes(name) ? `the body is flat: give its fields without \`${name}\`` : null),
).transform(({ name = null, targets, ...given }) => ({
  name,
  draft: { ...readOAuthDraft(given), targets },
}));

/** What connections have their fields in. */
const FOREIGN: readonly string[] = ["properties", "credentials"];

export const connectorDeletion = strictQuery({ force: flag.optional() });

export const connectorBody = z.object({
  name: z.string(),
  ...appBody.shape,
  scopes: z.array(z.string()).nullable(),
  targets: z.array(z.string()),
  redirectUrl: z.string(),
  createdAt: z.string(),
  updatedAt: z.string(),
});

export const connectorList = listOf(connectorBody);

export function writeConnector(connector: Connector, redirectUrl: string): z.infer<typeof connectorBody> {
  const { name, app, overrides, scopes, targets, createdAt, updatedAt } = connector;
  return {
    name,
    ...writeApp(app),
    ...writeOverrides(overrides),
    scopes,
    targets,
    redirectUrl,
    createdAt: writeMoment(createdAt),
    updatedAt: writeMoment(updatedAt),
  };
}
