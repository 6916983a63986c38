# Stands in for envoyproxy/envoy: the same release's program.
FROM debian:bookworm-slim
RUN useradd --system --uid 101 --no-create-home envoy
COPY program/envoy /usr/local/bin/
ENV LANG=C.UTF-8
