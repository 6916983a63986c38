# Stands in for mongo:8.0: the MongoDB server that scripts/stack runs.
FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libcurl4 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 999 --create-home mongodb \
    && install -d -o mongodb /data/db /data/configdb
COPY server/mongod /usr/local/bin/
VOLUME /data/db /data/configdb
CMD ["mongod"]
