# The image of headlight-server, with the `headlight` client beside it for health checks.
#   docker build -t headlight .
#   docker run --rm -p 8001:8001 headlight                 # serves the demo model
# It runs as any user, on a read-only root, without capabilities. scripts/test-image.sh tries it out.
ARG BASE=debian:trixie-slim

FROM ${BASE} AS builder
WORKDIR /src
COPY scripts/install-deps.sh scripts/derive-trixie-sources.sh scripts/
RUN scripts/install-deps.sh
COPY . .
RUN cmake --preset release -DHEADLIGHT_BUILD_TESTS=OFF -DHEADLIGHT_BUILD_BENCH=OFF \
    && cmake --build --preset release --target headlight-server headlight \
    && cmake --install build/release --component headlight --prefix /out --strip

FROM ${BASE}
# What `ldd` finds in the two programs, by package.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        libabsl20240722 libcivetweb1 libdnnl3.6 libfmt10 libgomp1 libgrpc++1.51t64 libhwy1t64 libisal2 \
        libprometheus-cpp-core1.0 libprotobuf32t64 libspdlog1.15 libssl3t64 libstdc++6 libtbb12 zlib1g \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY LICENSE /usr/local/share/doc/headlight/
COPY --from=builder /out/ /usr/local/

ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="headlight" \
      org.opencontainers.image.description="Multi-head attention over gRPC from ordinary CPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 65532:65532
EXPOSE 8001 8002
STOPSIGNAL SIGTERM
# The environment rather than an argument: `docker run headlight --threads 2` shall not lose it.
ENV HEADLIGHT_LISTEN=0.0.0.0:8001
# The admin port is for whoever runs the container: publish it to nobody else.
ENV HEADLIGHT_ADMIN_LISTEN=0.0.0.0:8002
# `docker stop` waits for 10 s and then kills. Who waits longer, as deploy/compose.yaml does, sets more.
ENV HEADLIGHT_SHUTDOWN_GRACE_S=8
# Plain HTTP to the admin port, wherever that and the gRPC port listen and whatever certificates the latter wants. Five
# minutes of a slow repository are no illness.
HEALTHCHECK --interval=5s --timeout=5s --start-period=5m --retries=3 \
  CMD ["headlight-server", "probe"]
ENTRYPOINT ["headlight-server"]
