# Stands in for apache/kafka: the same release's jars and the same program that turns KAFKA_… variables into settings.
FROM debian:bookworm-slim
RUN useradd --uid 1000 --create-home appuser \
    && install -d -o appuser /opt/kafka/config /opt/kafka/logs /var/lib/kafka/data /mnt/shared/config
COPY java /opt/java
COPY libs /opt/kafka/libs
COPY kafka-defaults /etc/kafka/docker
COPY kafka-run /etc/kafka/docker/run
USER 1000
VOLUME /var/lib/kafka/data /mnt/shared/config
CMD ["/etc/kafka/docker/run"]
