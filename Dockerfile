# syntax=docker/dockerfile:1
# The gateway with what it needs to run, and nothing else. `gateway init` writes a compose.yaml that uses it.
#
#   docker build -t mcp-policy-gateway:0.1.0 .
#   docker run --rm mcp-policy-gateway:0.1.0 --help
#
# Process 1 reaps nothing: run it with --init (compose: init: true).

FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# Not `npm ci`: it refuses when the lock file was made where the binaries of some other platform were not to be had.
RUN npm install --no-save --include=dev --include=optional --ignore-scripts --no-audit --no-fund
COPY . .
RUN node scripts/build.mjs
# Everything that belongs into the image, readable for whatever user it runs as.
RUN mkdir -p /out/compiler /out/scripts \
 && cp -R dist policies schemas templates package.json LICENSE README.md CHANGELOG.md SECURITY.md /out/ \
 && cp compiler/rego.wasm.br compiler/rego.wasm.sha256 compiler/runner.mjs compiler/wasm_exec.js /out/compiler/ \
 && cp scripts/healthcheck.mjs /out/scripts/ \
 && chmod -R a+rX /out

FROM node:24-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
# Optional are only the binaries of the embedded database: in a container the database is another container.
RUN npm install --no-save --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund

FROM node:24-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /out ./

# The folder with gateway.yaml and policies/ is mounted here.
WORKDIR /gateway
USER 65532:65532
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["node", "/app/scripts/healthcheck.mjs"]
ENTRYPOINT ["node", "/app/dist/cli/gateway.js"]
CMD ["serve"]

LABEL org.opencontainers.image.title="mcp-policy-gateway" \
      org.opencontainers.image.description="A policy gateway for MCP servers: decides every call by Rego policies and keeps the trace" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
