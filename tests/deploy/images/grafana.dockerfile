# Where Grafana's own image cannot be had: an empty place, as Debian has no package of it.
ARG BASE=debian:trixie-slim
FROM ${BASE}
CMD ["sleep", "infinity"]
