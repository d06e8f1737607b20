# The image of headlight-server, with the `headlight` client beside it.
#   docker build -t headlight .
#   docker run --rm -p 8001:8001 headlight                 # serves the demo model
# It runs as any user, on a read-only root, without capabilities. There is no shell and no package manager in it; what is, says
# /usr/local/share/doc/headlight/sbom.spdx.json. scripts/test-deploy.sh tries it out.
#
# The same commit gives the same bytes as long as it is built of the same packages. To pin those too:
#   docker build --build-arg BASE=debian:trixie-slim@sha256:... --build-arg APT_SNAPSHOT=20261101T000000Z
#     --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) -t headlight .
ARG BASE=debian:trixie-slim

FROM ${BASE} AS builder
WORKDIR /src
# apt takes packages as they were at that time from the archive's own snapshots.
ARG APT_SNAPSHOT=
COPY scripts/install-deps.sh scripts/derive-trixie-sources.sh scripts/
RUN if [ -n "$APT_SNAPSHOT" ]; then echo "APT::Snapshot \"$APT_SNAPSHOT\";" >/etc/apt/apt.conf.d/80snapshot; fi \
    && scripts/install-deps.sh \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates
# All that .dockerignore leaves, in one layer: without an overlay file system each is a copy of all below it.
COPY . .
# What compiles the time of the build into a program is an error.
RUN cmake --preset release -DHEADLIGHT_BUILD_TESTS=OFF -DHEADLIGHT_BUILD_BENCH=OFF -DCMAKE_CXX_FLAGS=-Wdate-time \
    && cmake --build --preset release --target headlight-server headlight \
    && cmake --install build/release --component headlight --prefix /out --strip
ARG SOURCE_DATE_EPOCH=0
RUN install -D -m 644 LICENSE /out/share/doc/headlight/LICENSE && scripts/image-root.sh /out /root-of-image

FROM scratch
COPY --from=builder /root-of-image/ /

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
ENV PATH=/usr/local/bin
# The environment rather than an argument: `docker run headlight --threads 2` shall not lose it.
ENV HEADLIGHT_LISTEN=0.0.0.0:8001
# The admin port is for whoever runs the container: publish it to nobody else.
ENV HEADLIGHT_ADMIN_LISTEN=0.0.0.0:8002
# `docker stop` waits for 10 s and then kills. Who waits longer, as deploy/compose.yaml does, sets more.
ENV HEADLIGHT_SHUTDOWN_GRACE_S=8
# Plain HTTP to the admin port, wherever that and the gRPC port listen, whatever certificates the latter wants and whatever
# proxies the environment names. Five minutes of a slow repository are no illness.
HEALTHCHECK --interval=5s --timeout=5s --start-period=5m --retries=3 \
  CMD ["headlight-server", "probe"]
ENTRYPOINT ["headlight-server"]
