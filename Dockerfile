# syntax=docker/dockerfile:1

FROM rust:1.95.0-bookworm AS build
# The image's own toolchain, without the linters that rust-toolchain.toml asks for.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin lakegate \
    && install -D target/release/lakegate /out/lakegate

FROM debian:bookworm-slim
# The server binaries of PostgreSQL, for projects that name no other Postgres. No cluster is made for them.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates postgresql-common \
    && sed -i -E 's/^#? *create_main_cluster *=.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
    && apt-get install -y --no-install-recommends postgresql \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /project --shell /usr/sbin/nologin lakegate \
    && install -d --owner=lakegate --group=lakegate /project
COPY --from=build /out/lakegate /usr/local/bin/lakegate
USER lakegate
WORKDIR /project
VOLUME /project
ENV LAKEGATE_DIR=/project
EXPOSE 8080
# lakegate ends its runs and its Postgres in good order on SIGTERM.
STOPSIGNAL SIGTERM
ENTRYPOINT ["lakegate"]
CMD ["up"]
