import { describe, expect, test } from "vitest";
import { isRefusal } from "../../src/core/errors.ts";
import { assertedUser } from "../../src/core/identity.ts";

const isRefused = (name: string) => {
  try {
    assertedUser(name, "user");
    return false;
  } catch (error) {
    return isRefusal(error, "invalid");
  }
};

describe("the name of a user", () => {
  test.each([["ada"], ["ada@example.com"], ["Ada Lovelace"], ["Żółć"], ["名前"], ["🦊"], ["a:b"]])(
    "%s is one",
    (name) => expect(assertedUser(name, "user")).toBe(`app:${name}`),
  );

  test.each([
    ["an empty name", ""],
    ["a long one", "x".repeat(257)],
    ["one with a line break", "a\nb"],
    ["one that turns its letters round", "a\u202eb"],
    ["one with a zero-width space", "a\u200bb"],
    ["one that ends in half a character", "mallory\ud800"],
    ["one with the other half", "mallory\udfff"],
    ["one whose halves stand the wrong way round", "\udc00\ud800"],
  ])("%s is refused", (_, name) => expect(isRefused(name)).toBe(true));
});
