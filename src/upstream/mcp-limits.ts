/** The most bytes that one answer of an MCP server may have, after decompression. */
export const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
/** The deepest nesting of arrays and objects in an answer. */
export const MAX_ANSWER_DEPTH = 100;
/** The most messages in one answer that comes as a stream. */
export const MAX_STREAM_MESSAGES = 10_000;
/** The most lines that one message of a stream may be split into. Servers write one. */
export const MAX_EVENT_LINES = 10_000;
/** The most requests of a server that are answered or declined during one call; further ones are ignored. */
export const MAX_SERVER_REQUESTS = 20;
/** How often one call is made again with what its server asks for, and the most inputs of one round. */
export const MAX_INPUT_ROUNDS = 10;
export const MAX_INPUTS = 20;
/** The wait where a server asks for nothing but to be asked later: the first, doubled each time up to the most. */
export const INPUT_PAUSE_MS = { first: 250, most: 10_000 };
/** How often a stream that broke off is taken up again (2025-11-25, "Resumability"). */
export const MAX_RESUMES = 100;
/** How often in a row a server may be away when its stream is to be taken up. */
export const MAX_AWAY = 5;
/** The wait before taking up a stream: between these, the first where the server does not say. */
export const RESUME_WAIT_MS = { usual: 1_000, least: 100, most: 30_000 };
export const MAX_REDIRECTS = 3;

/** How often the progress of one call is passed on at most, */
export const PROGRESS_EVERY_MS = 250;
/** and with how many UTF-16 code units of the server's words. */
export const MAX_PROGRESS_TEXT = 500;

/** The most bytes that all pages of a listing may have together, after decompression. */
export const MAX_LIST_BYTES = 4 * 1024 * 1024;
export const MAX_LIST_PAGES = 50;
export const MAX_LISTED_TOOLS = 2_000;
/** The most arguments of a tool that are mirrored as headers: a server reads so many headers and no more. */
export const MAX_MIRRORED_PARAMETERS = 64;
/** The longest life of a listing that a server may ask for. */
export const MAX_LIST_TTL_MS = 24 * 60 * 60 * 1000;

/** The longest text of a server's JSON-RPC error that is passed on, in UTF-16 code units. */
export const MAX_ERROR_TEXT = 2_000;
/** From this length on, in UTF-16 code units, a header's value may be a secret. Shorter ones are found in any text. */
export const MIN_SECRET_LENGTH = 8;

/** A server's era is remembered for so many URLs, */
export const MAX_ERAS = 1_000;
/** and that it is an older one for so long: an upgraded server still answers `initialize`, forever. */
export const LEGACY_ERA_MS = 12 * 60 * 60 * 1000;

/** Sessions kept, over all users and servers; the longest unused one goes first. */
export const MAX_SESSIONS = 1_000;
/** Those of one connection, so that its users do not put out everybody else's. */
export const MAX_SESSIONS_OF_CONNECTION = 250;
/** A session not used for so long is ended. */
export const SESSION_IDLE_MS = 10 * 60 * 1000;
/** No call takes longer than ten minutes, and so no use of a session does. */
export const LONGEST_USE_MS = 11 * 60 * 1000;
/** Negotiation and `initialize`, which several callers may be waiting for. */
export const CONNECT_MS = 60_000;
/** Servers of which it is remembered that they said that their tools changed. */
export const MAX_CHANGES = 10_000;
/** Streams on which stateless servers say so, at once, */
export const MAX_SUBSCRIPTIONS = 100;
/** of so many bytes each, */
export const MAX_SUBSCRIPTION_BYTES = 256 * 1024;
/** each for so long: it is made with one person's credential. */
export const SUBSCRIBED_MS = 10 * 60 * 1000;
/** A listing that is kept for less is made anew sooner than it is worth a stream. */
export const SUBSCRIBE_FROM_MS = 10_000;
/** What is said to a server without waiting for it: an ended session, a cancelled or declined request. */
export const COURTESY_MS = 2_000;
/** How long a request waits for the head of the stream on which its server may ask something. */
export const LISTEN_HEAD_MS = 2_000;
/** How long a stream may stay open after its answer, so that the connection can be used again. */
export const LINGER_MS = 250;
