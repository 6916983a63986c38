# Stands in for rust:<version>-bookworm: the machine's own toolchain on Debian.
FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ gcc git libc6-dev libssl-dev make patch perl pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
COPY toolchain /usr/local/toolchain
ENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:/usr/local/toolchain/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
