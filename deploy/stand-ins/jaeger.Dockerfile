# Stands in for jaegertracing/jaeger: an older release of Jaeger 2, without its pages.
FROM debian:bookworm-slim
COPY jaeger /usr/local/bin/
USER 10001
ENTRYPOINT ["jaeger"]
