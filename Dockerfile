# One image for replicas and simulator. "docker build --target test ." runs all tests.

# The version's one place; the tag in docker-compose.yml repeats it, and a test compares them.
ARG VERSION=1.0.0

FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS source
WORKDIR /src
# Tests and image are built with the same flags, which .ci/run reads here. nomsgpack and stdjson leave out
# codecs that are not used: a third of the binary.
ENV GOFLAGS="-buildvcs=false -tags=nomsgpack,stdjson" GOTOOLCHAIN=local
COPY . .

FROM source AS tested
# With -race, vet and tests compile every dependency once, not twice.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go vet -race ./... && go test -race -shuffle=on -timeout 30m ./... && touch /tested

# Only an empty file is kept: no image of a gigabyte is left behind.
FROM scratch AS test
COPY --from=tested /tested /

FROM source AS build
ARG VERSION
# Empty: what HEAD names, if the folder is a clone.
ARG COMMIT
ARG TARGETOS
ARG TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    commit=${COMMIT:-$(mkdir -p .git/objects .git/refs 2>/dev/null && git rev-parse --verify --quiet HEAD || true)} && \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath \
      -ldflags "-s -w -X main.version=$VERSION -X main.commit=$commit" -o /habot ./app && mkdir /lifelines

FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION
ARG COMMIT
LABEL org.opencontainers.image.title="habot" \
      org.opencontainers.image.description="A highly available Telegram bot" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /habot /habot
# A new volume that is mounted here gets its owner from the image.
COPY --from=build --chown=65532:65532 /lifelines /run/habot
# A replica mostly waits: on one processor it wakes up cheaper. The memory limit lies below the 30 MiB
# that it is meant to use; the collector works harder before it grows.
ENV GOMAXPROCS=1 GOMEMLIMIT=20MiB
USER 65532:65532
ENTRYPOINT ["/habot"]
# Alive, whatever its role: health that depended on a quorum would keep one from forming. In a stack a task is
# found by the others only once it is healthy; docker-compose.yml has engines look at once (engine 25 and newer).
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/habot", "healthcheck"]
