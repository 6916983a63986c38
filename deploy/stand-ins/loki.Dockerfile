# Stands at the place of grafana/loki and is no Loki: a collector that prints what it is sent. Loki's own configuration,
# which it is given, is not read.
FROM debian:bookworm-slim
COPY otelcol-contrib /usr/local/bin/
COPY log-catcher.yaml /etc/
USER 10001
ENTRYPOINT ["/bin/sh", "-c", "exec otelcol-contrib --config=/etc/log-catcher.yaml"]
