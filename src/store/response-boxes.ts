// The boxes of a response. Those of a thread are its items, by position.
export const BODY = 0;
export const TOOL_SECRETS = 1;
