# The broker as an image: a bundle, better-sqlite3 with its binary, and Node. docs/hosting.md says how to run it.

# Where it is built does not matter: a bundle is for every machine, and better-sqlite3 brings the binaries of all.
FROM --platform=$BUILDPLATFORM node:26-slim AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY bin ./bin
COPY drizzle ./drizzle
COPY src ./src
RUN node bin/build.mjs

FROM node:26-slim AS app
ENV NODE_ENV=production \
    CONSENTRY_HOST=0.0.0.0 \
    CONSENTRY_PORT=8787 \
    CONSENTRY_DATABASE_URL=file:/data/consentry.db \
    SQLITE_TMPDIR=/data
WORKDIR /app
COPY --from=build /build/dist ./
COPY --from=build /build/node_modules/better-sqlite3/package.json /build/node_modules/better-sqlite3/LICENSE ./node_modules/better-sqlite3/
COPY --from=build /build/node_modules/better-sqlite3/lib ./node_modules/better-sqlite3/lib
COPY --from=build /build/node_modules/better-sqlite3/prebuilds/linux-*.node ./node_modules/better-sqlite3/prebuilds/
RUN mkdir -m 0700 /data && chown 10001:10001 /data
VOLUME /data
# By number: Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8787
HEALTHCHECK --interval=15s --timeout=3s --start-period=10s CMD ["node", "lib/healthcheck.mjs"]
# A young generation that is not collected ten times during the start.
CMD ["node", "--min-semi-space-size=16", "lib/consentry.mjs"]

# The broker runs once, for what V8 makes of the bundle: it serves the same Node, user and kind of processor.
FROM app AS warm
COPY --from=build /build/bin/warm.mjs ./
RUN NODE_COMPILE_CACHE=/tmp/warm node warm.mjs && chmod -R a+rX /tmp/warm

# Root's, so that the broker cannot change what it will run.
FROM app
COPY --from=warm /tmp/warm ./warm
ENV NODE_COMPILE_CACHE=/app/warm
