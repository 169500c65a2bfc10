import { parse, serialize } from "hono/utils/cookie";

/** What our pages keep in a browser, as values that core gives and reads. */
export type Cookies = {
  /** Null: the browser has none, or not one that we could have given. */
  read: (request: Request, name: CookieName) => string | null;
  /** A `Set-Cookie` line. Null as value: the cookie ends. */
  write: (name: CookieName, value: string | null) => string;
};

export type CookieName = "browser" | "me";

/**
 * On https the names carry `__Host-`: no other host, path or plain http can set them. On http there is loopback only, where
 * browsers refuse that prefix.
 */
export function createCookies(publicUrl: string): Cookies {
  const isSecure = publicUrl.startsWith("https:");
  const nameOf = (name: CookieName) => `${isSecure ? "__Host-" : ""}consentry-${name}`;
  return {
    read: (request, name) => {
      const full = nameOf(name);
      const value = parse(request.headers.get("cookie") ?? "", full)[full];
      return value !== undefined && VALUE.test(value) ? value : null;
    },
    // Lax, not Strict: authorization servers and sign-ins send people back to us, and they must be known then.
    write: (name, value) =>
      serialize(nameOf(name), value ?? "", {
        path: "/",
        httpOnly: true,
        secure: isSecure,
        sameSite: "Lax",
        maxAge: value === null ? 0 : SECONDS[name],
      }),
  };
}

/** As long as what it is for: a consent, a session of `/me`. */
const SECONDS: Record<CookieName, number> = { browser: 60 * 60, me: 15 * 60 };

/** 32 random bytes in base64url. */
const VALUE = /^[\w-]{43}$/;
