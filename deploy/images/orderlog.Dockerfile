# One image per service: `docker build -f deploy/images/orderlog.Dockerfile --target command-api .`
# Targets: gateway, command-api, projections, notifier, providers (the stand-in), tools (set-up and import).

FROM rust:1.95.0-bookworm AS build
# The image's own toolchain, whatever rust-toolchain.toml would fetch beside it.
ENV RUSTUP_TOOLCHAIN=1.95.0
# Compilers at once; as many as there are processors when it is not given.
ARG CARGO_BUILD_JOBS
WORKDIR /src
COPY . .
# What the cache holds may come of another checkout, whose files are newer: cargo goes by their times.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    find . -path ./target -prune -o -type f -exec touch {} + \
    && cargo build --release --locked --workspace --bins \
    && mkdir /out \
    && cp target/release/command-api target/release/projections target/release/notifier \
          target/release/providers target/release/import-orders /out/

FROM debian:bookworm-slim AS base
# Not pinned on purpose: the root certificates should be today's.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin orderlog \
    && install -d -o orderlog -m 0700 /secrets \
    && install -d -o orderlog -m 0700 /gateway-authority /gateway-secrets /provider-certificates /state \
    && install -d -o orderlog -m 0755 /database-secrets /registry-secrets /dashboard-secrets
COPY deploy/images/ready /usr/local/bin/ready
USER 10001
STOPSIGNAL SIGTERM
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s --retries=3 CMD ["ready", "8080"]

FROM base AS command-api
COPY --from=build /out/command-api /usr/local/bin/
ENTRYPOINT ["command-api"]
CMD ["serve"]

FROM base AS projections
COPY --from=build /out/projections /usr/local/bin/
ENTRYPOINT ["projections"]
CMD ["serve"]

FROM base AS notifier
COPY --from=build /out/notifier /usr/local/bin/
ENTRYPOINT ["notifier"]
CMD ["serve"]

FROM base AS providers
COPY --from=build /out/providers /usr/local/bin/
ENTRYPOINT ["providers"]

FROM base AS tools
USER 0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssl \
    && rm -rf /var/lib/apt/lists/*
USER 10001
COPY --from=build /out/command-api /out/import-orders /usr/local/bin/
COPY gateway/make-certificate deploy/images/make-secrets deploy/images/make-admin /usr/local/bin/
HEALTHCHECK NONE
CMD ["make-secrets"]

FROM envoyproxy/envoy:v1.40.0 AS gateway
COPY gateway/envoy.yaml gateway/render /etc/orderlog-gateway/
COPY deploy/images/ready deploy/images/gateway /usr/local/bin/
USER 10001
STOPSIGNAL SIGTERM
EXPOSE 8443 9901
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["ready", "9901", "/ready"]
ENTRYPOINT ["gateway"]
