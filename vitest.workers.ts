import { defineConfig, mergeConfig } from "vitest/config";
import config from "./vitest.config.ts";

// What concerns Workers, whole: the store's contract on D1, and the broker in workerd.
export default mergeConfig(
  { ...config, test: { ...config.test, include: [] } },
  defineConfig({
    test: {
      include: ["test/store/**/*.test.ts", "test/worker/**/*.test.ts"],
      env: { CONSENTRY_TEST_D1: "all" },
    },
  }),
);
