# Stands in for apicurio/apicurio-registry: the same release.
FROM debian:bookworm-slim
RUN useradd --uid 185 --create-home jboss
COPY java /opt/java
COPY app /deployments
COPY registry-run /usr/local/bin/
USER 185
EXPOSE 8080
CMD ["registry-run"]
