# One image for replicas and simulator. "docker build --target test ." runs all tests.

FROM golang:1.26.8-bookworm AS source
WORKDIR /src
ENV GOFLAGS=-buildvcs=false GOTOOLCHAIN=local
COPY go.mod go.sum ./
RUN go mod download
COPY . .

FROM source AS test
RUN --mount=type=cache,target=/root/.cache/go-build go vet ./... && go test -race -shuffle=on ./...

FROM source AS build
# nomsgpack and stdjson leave out codecs that are not used: a third of the binary.
RUN --mount=type=cache,target=/root/.cache/go-build CGO_ENABLED=0 go build -trimpath -tags nomsgpack,stdjson -ldflags "-s -w" -o /habot ./app

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /habot /habot
# A replica mostly waits: on one processor it wakes up cheaper. The memory limit lies below the 30 MiB
# that it is meant to use; the collector works harder before it grows.
ENV GOMAXPROCS=1 GOMEMLIMIT=20MiB
USER 65532:65532
ENTRYPOINT ["/habot"]
# Alive, whatever its role: health that depended on a quorum would keep one from forming.
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s --retries=3 CMD ["/habot", "healthcheck"]
