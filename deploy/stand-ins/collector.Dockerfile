# Stands in for otel/opentelemetry-collector-contrib: the same release, with those parts that its configuration names.
FROM debian:bookworm-slim
COPY otelcol-contrib /
USER 10001
ENTRYPOINT ["/otelcol-contrib"]
