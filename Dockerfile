# The program alone: static, in an otherwise empty image, run by a user without rights.
#
#   docker build -t polynet .
#   docker run --rm -v "$PWD:/data" polynet predict photo.jpg
#
# `cargo xtask image` takes the same steps without Docker.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /polynet
COPY . .
# The C library becomes a part of the program; with --target its flag is for the program, not for what builds it.
RUN RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --features serve,parquet --target-dir target/image --target "$(rustc -vV | sed -n 's/^host: //p')"
RUN cp target/image/*/release/polynet target/image/polynet

FROM scratch
COPY --from=build /polynet/target/image/polynet /polynet
WORKDIR /data
USER 65532:65532
ENTRYPOINT ["/polynet"]
