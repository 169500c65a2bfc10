import type { OAuthAuth, OAuthSource } from "./connection.ts";
import { type OAuthDraft, typedOf } from "./oauth-app-rules.ts";

/** A change starts from what was typed. What belonged to another way of finding the app does not come along. */
export function merged(draft: OAuthDraft, before: OAuthAuth): OAuthDraft {
  const given = Object.fromEntries(Object.entries(draft).filter(([, value]) => value !== undefined));
  // Without a client there is nothing to prove.
  const proof = draft.clientId === null && draft.clientAuth === undefined ? { clientAuth: null } : {};
  return { ...settingsOf(before), ...sourceDraft(before.source, draft), ...given, ...proof };
}

function sourceDraft(source: OAuthSource, draft: OAuthDraft): OAuthDraft {
  switch (source.kind) {
    case "connector":
      return { connectorName: source.connector };
    case "discovery": {
      const { issuer, clientId, clientAuth } = source;
      return draft.connectorName == null ? { issuer, clientId, clientAuth } : {};
    }
    case "custom": {
      if (draft.connectorName != null) return {};
      const typed = typedOf(source.app);
      if (draft.tokenUrl === undefined || draft.tokenUrl === typed.tokenUrl) return typed;
      if (draft.tokenUrl !== null) return { ...typed, refreshUrl: null, revocationUrl: null };
      return { clientId: source.app.clientId, clientAuth: source.app.clientAuth, issuer: typed.issuer };
    }
  }
}

function settingsOf({ scopes, overrides }: OAuthAuth): OAuthDraft {
  const { resource, refreshScope, pkce, reason } = overrides;
  return {
    scopes,
    resource: typeof resource === "object" ? resource.value : resource,
    refreshScope,
    pkce,
    overrideReason: reason,
  };
}
