# A static binary and what it reads at run time: CA certificates and time zones. No shell.
#
#   docker build -t watcher .                        the product
#   docker build -t watcher-demo --target demo .     the whole road on one machine

# Built on the machine's own architecture, for the one that is asked for.
FROM --platform=$BUILDPLATFORM golang:1.26.8@sha256:6c2a5538f964f1c82f97ad14988bf05de100d922d159d0e398b54c7b0ca0c6c9 AS build
WORKDIR /src

# Modules first: this layer is built again only when they change.
COPY go.mod go.sum ./
RUN go mod download

COPY cmd cmd
COPY internal internal
COPY pkg pkg
ARG VERSION=dev
ARG COMMIT
ARG DATE
ARG TARGETOS
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT} -X main.date=${DATE}" \
      -o /bin/ ./cmd/watcher ./cmd/demo \
 && mkdir -p /out/etc/ssl/certs \
 && cp -L /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
 && cp "$(go env GOROOT)/lib/time/zoneinfo.zip" /out/zoneinfo.zip

FROM scratch AS base
COPY --from=build /out/ /
# time.LoadLocation looks here first.
ENV ZONEINFO=/zoneinfo.zip
# A number, so that a cluster which demands a non-root user can check it without /etc/passwd.
USER 65532:65532

FROM base AS demo
COPY --from=build /bin/demo /demo
ENTRYPOINT ["/demo"]

# The last target is the default one.
FROM base AS watcher
COPY --from=build /bin/watcher /watcher
EXPOSE 9090
ENTRYPOINT ["/watcher"]
CMD ["run"]
