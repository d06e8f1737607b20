# Where haproxy's own image cannot be had: Debian's package, and the wget of its health check in deploy/compose.yaml.
ARG BASE=debian:trixie-slim
FROM ${BASE}
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends haproxy wget \
    && rm -rf /var/lib/apt/lists/*
USER haproxy
